// Package lab is a running cluster of hack/cluster with Signpost in it, as the
// demo, the end-to-end tests and the measurements use it: it runs the commands
// that a user would type and keeps a transcript of them, and it watches what a
// user cannot see fast enough.
//
// It acts on one cluster only, the one that hack/cluster has up, and ends no
// process but those of that cluster. It knows nothing of Signpost's packages:
// what it sees is what a user sees.
package lab
