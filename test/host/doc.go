// Package host is a node for tests and benchmarks: network namespaces of a machine's own, with
// a program in them whose only way out is to the API server.
package host
