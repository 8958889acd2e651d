// Package rendezvous says which of several nodes something falls to, such that all
// who know the same nodes come to the same, and that little changes when a node
// comes or goes.
//
// It imports nothing of ours: what the nodes and the keys are is the caller's.
package rendezvous
