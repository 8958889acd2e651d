// Package records answers questions about the names of a cluster: a Snapshot
// and a question in, an answer as data out. It is the whole of what Signpost
// says about names; the shell around it (package dns) only moves packets.
//
// The contract is the Kubernetes DNS specification 1.1.0 and, where that is
// silent, CoreDNS 1.15: the case of the question is kept, SRV without port and
// protocol lists all ports, weights are floor(100/n), a headless Service
// without a ready endpoint has no name. It differs from CoreDNS on purpose in
// these points, each for the sake of resolvers that believe what they are told
// (RFC 8020, RFC 4074):
//
//   - whether a name exists does not depend on the type that is asked for: a name
//     that has only TXT records, or that only has names below it (dns.ZONE,
//     _tcp.SVC.NS.svc.ZONE), is answered with NODATA, and SOA and TXT questions
//     for names that do not exist get NXDOMAIN;
//   - pod names have no SRV records, where CoreDNS makes one with port 0;
//   - a Service whose namespace has not been seen yet has its names already,
//     because the two come from two watches.
//
// And for the sake of the API server, names of pods are verified by what the node
// knows, its own pods and endpoints, where CoreDNS watches all pods of the cluster.
//
// It is pure: it reads no clock, no socket and no file, never logs, takes
// rotation and serial numbers as arguments, and must never import a shell or
// anything of Kubernetes. It may import miekg/dns, for the types of records
// only. A lookup touches the Services that the name speaks of and never walks
// over all of them; what cannot be found by name, the owner of an address, is
// kept in an index that Next updates from the difference of two Snapshots.
package records
