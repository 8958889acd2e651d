// Package work has the workers of a controller, which last for one term.
//
// It imports nothing of ours: what a key is and what is done for it are the
// controller's. Whether a key is tried again is too.
package work
