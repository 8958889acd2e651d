// Package ledger keeps, for a controller, what is published for each Service, in
// the newest version that is known, and makes the writes that lead to the next
// one.
//
// A plan must never be made from what the controller itself has changed already,
// or it would write old state back or create slices twice. So what a Batch has
// written is in the Ledger at once, and an event of the informers that is older
// than that changes nothing. Each write fails if somebody else was quicker: an
// update or deletion is only of the very version that it was planned from.
//
// It must not import a controller, whose shell imports it, nor the other wings
// (proxy, dns).
package ledger
