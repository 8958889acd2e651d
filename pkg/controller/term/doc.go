// Package term lets one of several processes do a piece of work at a time, for
// one term after another: campaign for a lease, do the work while the lease is
// held, drain, campaign again.
//
// What is lost with the lease is the term, never the process: whatever else the
// process does (here, the packets and names of its node) goes on without a
// leader and without an API server.
//
// There may be thousands of candidates. Each watches the Lease and otherwise does
// nothing until it is free or has expired; then they try in an order which all
// work out for themselves, a few at a time. The elections are client-go's.
//
// It must not import the work that is done in a term, nor any other room of the
// house: the daemon hands it a function.
package term
