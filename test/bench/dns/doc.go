// Command dns measures Signpost's name server side by side with CoreDNS, which
// knows the same cluster from the same API server, and with unbound if it is
// installed, which has the same records as constants and stands for what a name
// server can do at all.
//
// The servers take turns, each on a node of namespaces, and are asked from a pod of
// theirs: at steady rates for latency and processor time, for as much as they
// can answer, and at last by a pod that floods them beside one that does not.
//
//	make bench-dns
package main
