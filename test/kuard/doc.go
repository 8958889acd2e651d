// Command kuard is the HTTP server that the local cluster's examples run: a small
// cousin of the demo application of "Kubernetes: Up and Running". It says who
// answers, and its readiness can be switched off and on.
//
//	GET  /                     the pod, its node, the client's address and the version
//	GET  /healthy              200
//	GET  /ready                200, or 503 after /ready/off and while it ends
//	POST /ready/off /ready/on  switch that (GET does as well)
//
// Told to end (SIGTERM), it says that it is not ready but goes on accepting
// connections for a while, because some that chose it before are still on
// their way; then it finishes what it has begun.
package main
