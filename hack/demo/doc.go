// Command demo shows Signpost on a real two-node Kubernetes: it builds the
// images, stands the cluster up, deploys Signpost as an operator would, and
// walks through the textbook chapter on service discovery (package chapter).
//
//	go run ./hack/demo [-down] [-setup]
//
// Every command is printed before its output. It exits with 1 if a step failed.
// The cluster stays up, unless -down is given. With -setup it only deploys, which is
// what the end-to-end tests start from.
package main
