// Package search decides when the server may walk a client's search list in its
// place, and where that walk ends.
//
// A pod's resolver that is to find www.example.com, with "ndots:5" and the usual
// search list, asks for www.example.com.NS.svc.cluster.local, …svc.cluster.local,
// …cluster.local, each for A and AAAA, and only then for the name itself. The
// server knows at the first of these questions how it ends. So it answers that
// one with an alias of the name at which the walk ends, and with what that name
// has: two questions instead of eight.
//
// # Why the client gets what it would have got by itself
//
// Let c be the first step, in the client's order, that does not say NXDOMAIN for A
// and for AAAA alike. The first question, of either type, is answered with what c
// says for that type, word for word: its records, or no record at all (then
// without the alias: glibc takes any record for an answer), NXDOMAIN, or SERVFAIL.
// If no step is such a c, the answer stays NXDOMAIN. This is right for any
// resolver that
//
//   - decides at a step by the answers of that step alone, and
//   - goes on to the next step when all of them are NXDOMAIN.
//
// For it comes to c in any case. If it stops there, it has the same answers. If it
// goes on (glibc and Go do when there are no addresses, or after SERVFAIL; musl
// does not), it asks the second question, which is answered as it stands, as are
// all further ones: so it comes to c again, goes on there, and ends where it would
// have. glibc, musl, Go and c-ares are such resolvers; the tests hold the first
// three, as written down from their sources, against it with random worlds.
//
// Those that ask for one type only (an IPv4 socket, gethostbyname) get the same c:
// a step that exists for the other type ends the walk for them, too, but with what
// it says for their type, which is what they would have met there. That is also
// why one upstream that wrongly says NXDOMAIN for AAAA (RFC 4074) cannot lead A and
// AAAA to different names.
//
// # When it is not done
//
// On the wire the first step of a search looks like a question for just that name,
// with a dot at its end or with enough dots in it. Who asks that wants NXDOMAIN.
// Therefore a question is walked only if it is for A or AAAA, ends in the first
// search domain, the rest has fewer than ndots dots, it does not exist, and
//
//   - it is no later step of a search of the same client (History tells);
//   - and it can be no name of the cluster whatever objects there are: more than
//     three labels below "svc", none with an underscore. www.example.com is one.
//     Or, if it could be one (example.com might be pod "example" of a Service "com"),
//     there is no such Service, and the client was seen to search for that very name
//     before: having had NXDOMAIN, it asked for the next step.
//
// What remains is this: a client that asks, absolutely, for a name that can not
// exist, or for one that it searches for at other times too, gets addresses where
// it would have had NXDOMAIN. From the wire nobody can tell. Neither can it be seen
// if a container has its resolv.conf changed, or LOCALDOMAIN set. No name that does
// exist in the cluster, or could, is ever hidden or replaced.
//
// It is pure: it must never read a clock, a socket or a file, never log, and never
// import Kubernetes.
package search
