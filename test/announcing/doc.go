// Package announcing has announcers of several nodes run on one link, each in a
// process and a network namespace of its own, does to them what happens to nodes,
// and asks as a host outside of them who has an address.
//
// A process belongs to one namespace, so that a program that uses this package is
// all of the nodes as well: its main calls Be first of all.
//
// It needs root. It is for tests and measurements only: nothing that goes into the
// binary may import it.
package announcing
