// Package pool decides which addresses each Service of type LoadBalancer gets,
// and why one gets none.
//
// An Allocator holds the pools, the namespaces' labels and the Services, is told
// of what changes, and works out what follows when it is asked to Settle. What it
// decides does not depend on the order in which it was told, and another one that
// is told the same, with the addresses that were decided as those that the
// Services have, decides nothing else: so nothing has to be stored but what is in
// the status of the Services.
//
// The rules, in this order:
//
//   - Who has an address keeps it, whatever becomes of the pools. Of two that
//     cannot both have one, the older Service has it.
//   - A Service that now asks for something else keeps what it has until it can get
//     that; but a change of its scope, or of its families, counts at once.
//   - Who asks for one address comes before those who take any.
//   - Older Services come before younger ones, and pools that select before those
//     that are for all, then older ones. From a pool it is the lowest free address.
//
// The package is pure: it must not read a clock or anything else of the outside,
// nor log, and must not import a shell. What is wrong comes back in verdicts.
package pool
