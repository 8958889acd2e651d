// Package dns is the DNS server of a node: it puts the addresses of the
// cluster's DNS Service onto the node itself and answers there, so that a pod's
// question never leaves its node.
//
// It is the shell around dns/records, which decides what the answers are,
// dns/packed, which keeps them as they are sent, and dns/forward, which asks for all
// names that are not the cluster's. What is left for it are sockets, limits and the
// form of messages:
//
//	snapshot ──► Book (atomic pointer) ──────────┐
//	                                             ▼
//	UDP, one socket per core, in batches ──► kept packed? ──► send, in batches
//	                                             │ no
//	                                             ▼
//	TCP, pipelined ──────────────────────► parse, answer at once ──► pack, cut to size ──► send
//	                                             │ not the cluster's, not cached
//	                                             ▼
//	                                       a goroutine of a limited number, forward
//
// Questions about the cluster are answered by the goroutine that read them, without
// a lock, and without an allocation if they were asked before. Only clients that may
// ask are answered (clients.go). Everything that could pile up has a limit, in all
// and for each client, and what is beyond it is refused at once: connections,
// questions on one connection, questions that wait for an upstream. While more comes
// than can be answered, clients have their share of a reader's time (shares.go). A
// panic costs the question that caused it.
//
// It must never import another wing, nor Kubernetes: it learns of the cluster
// only through model.Snapshot, from whoever gives it a Snapshots.
package dns
