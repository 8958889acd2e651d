// Package listen lets a controller hear, for one term, of what informers see
// that may live longer than the term.
//
// It must not import a controller, whose shell imports it, nor the other wings
// (proxy, dns).
package listen
