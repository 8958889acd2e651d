// Package daemon is the composition root: the one place where the wings are
// joined, by plain constructor calls in the order in which data flows, and
// supervised.
//
// It holds no logic of Services, packets or names. Everything may be imported
// here, and only cmd may import it.
package daemon
