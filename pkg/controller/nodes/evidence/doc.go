// Package evidence decides which nodes are dead, from what is heard of them: a
// node is when those who probe it agree that it is silent, and its Lease says the
// same. It is pure: what is heard, and the time, are arguments, and so is what it
// remembers from one time to the next.
//
// The mistake that must not happen is to take nodes for dead that are alive: it
// empties Services that work. So whoever contradicts is believed, and when many
// nodes are silent at once it is taken to be the listener who is cut off.
//
// It must not import client-go, nor anything that reads clocks or sockets.
package evidence
