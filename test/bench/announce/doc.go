// Command announce measures how load balancer addresses move when a node fails:
// three nodes on a link, each an announcer in a process and a network namespace of
// its own, and an outside host that asks by ARP and NDP for each address every
// 10 ms, and notes who answers when.
//
//	go run ./test/bench/announce [-rounds 200] [-at-once 4] [-addresses 4] [-only "link down"]
//	go run ./test/bench/announce -spread 1000
//
// For each way to fail it does so many rounds, several on links of their own at a
// time, and prints how long it took until another node answered, for how long
// nobody did, and for how long two did: that a node is heard after another one has
// been, even once. -spread says instead how many of so many addresses each node
// has, from nothing, after a node was killed, after it is back, and after all were
// started anew one after the other.
//
// It needs root. All packets stay in namespaces that it has made.
package main
