// Package forward resolves the names that are not the cluster's, by asking the
// resolvers that the node has been given.
//
// It is a stub resolver and believes its upstreams, but nobody else: each
// question goes out with a random ID from a socket of its own, bound to a random
// port and connected to the upstream, and whatever comes back that is not the
// answer to it (other ID, other question, not a response) is ignored, while the
// wait for the right one goes on. Equal questions that are asked at the same
// time are sent once, which is what a forger would need many of.
//
// It is a shell: it owns sockets, a cache and a clock. Nothing in it knows of
// Services; it must never import a shell of another wing, nor package dns, which
// imports it.
package forward
