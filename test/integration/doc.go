// Package integration holds the tests that run the daemon as a whole, against a
// real API server, on a node that is a network namespace with real iptables:
// Services and Pods go in, packets and answers come out. What only a kubelet can
// show is in test/e2e.
//
// They have the build tag integration, take root, and want the programs that
// `make programs` builds.
package integration
