// Command memory measures what the daemon takes of memory, as the leader and as a
// follower, in a cluster that exists in the API only: two nodes, each a network
// namespace with the whole daemon in it, iptables and name server included.
//
//	go run ./test/bench/memory [-services 2000] [-pods 5]
package main
