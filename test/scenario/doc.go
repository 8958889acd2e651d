// Package scenario runs whole clusters through the pure parts of Signpost, each
// told in one txtar file: what the API says goes in as YAML, the plan of
// EndpointSlices, the rules, what they do to packets, and the answers to names
// come out.
//
// A file has the section cluster.yaml, if need be config.yaml, and any of these, of which the lines at
// the margin are questions and what is indented below them the answer:
//
//	packets   "pod tcp 10.244.1.9 10.96.0.20:80": from a pod, outside or the node. After it, in=cni0 is the
//	          interface, state=INVALID what connection tracking says, and twice asks about the
//	          client's second connection, when the first one went the first way
//	names     "A web.default.svc.cluster.local"
//	rules.ipv4, rules.ipv6   the text for iptables-restore, whole
//	problems  what is wrong with a Service, whole
//
// Pods stand behind Services by way of the controllers' plan; EndpointSlices in
// the YAML are taken as they are. `go test ./test/scenario -update` writes
// what comes out into the files, for you to read before you commit it.
package scenario
