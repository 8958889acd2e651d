// Package stale decides which tracked connections have to be cut because of a
// change of the cluster's Services: the kernel takes every packet of a
// connection that it knows to where the first one went, whatever the rules say
// by now. For UDP that has no end while the client goes on sending.
//
// A Book follows the Services whose rules are in, and remembers for each front
// end that changed what is gone behind it. A Look is what has to be looked for in
// the kernel's table at one moment: a Filter, which the kernel itself can apply,
// and Stale, which decides about each of the flows that are left.
//
// # What is cut
//
// A flow is ours only if it was sent to a front end of a Service and its server is, or
// was, an endpoint of that Service. Of those:
//
//   - UDP whose endpoint or front end is gone. An endpoint that still serves keeps its
//     flows while it terminates, and when topology now prefers others, as it would keep
//     TCP connections.
//   - UDP that nobody has answered and that was not translated, at a front end that
//     gets its first endpoint: it was begun while there was nobody to send it to, and
//     would go nowhere for ever (kubernetes/kubernetes#48370, #126934).
//   - TCP and SCTP of both kinds whose handshake has not been completed half a second
//     later: the client's next attempt then reaches an endpoint that is alive, rather
//     than the dead one for up to two minutes (#98, #101607, #104098). Connections that
//     are established are never cut; they may end in peace.
//
// A process that starts has not seen what changed before. It compares once, by state
// instead of by change: what was translated at one of our front ends and leads to no endpoint that
// serves is cut, and so is what was translated at an address that only Services
// can have and that none has any more; all else stays (#122740).
//
// The package is PURE: it reads no clock, no socket and no file, and never logs.
// What it is told of time it gets as an argument.
package stale
