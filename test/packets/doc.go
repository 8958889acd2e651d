// Package packets holds what Signpost does to packets against what kube-proxy does:
// the same objects in a real API server, a node of network namespaces for each of
// them, real connections, and one table of who must get where and be seen as whom.
//
// Where Signpost and kube-proxy differ, the difference is listed and argued for in
// differences_test.go; a difference that is not there fails the test, and so does one that is not
// met any more.
//
// The table runs with the usual settings of both and, shorter, with others that change who is masqueraded and
// which addresses answer. What load balancers are told at health check ports is compared with it.
//
// It consists of tests only, with the build tag integration.
package packets
