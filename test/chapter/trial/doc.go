// Package trial measures what a user feels when a cluster with Signpost changes
// or breaks: how long a packet still goes to a pod that is no longer ready, what
// fails while a Deployment is scaled, when the daemon is killed, and while the
// API server is away.
//
// A trial returns figures and an error only if it could not measure: what is
// good enough is for its caller to say. All run on a cluster of package lab,
// in a namespace of their own.
package trial
