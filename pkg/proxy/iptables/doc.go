// Package iptables runs the iptables programs: it is the only place in Signpost
// that starts a process. Text and rules go in, typed errors come out; it knows
// nothing of Services and nothing of Kubernetes, and decides nothing: what to
// write and when is pkg/proxy's business.
//
// It finds out which of the two sets of programs a node uses (iptables over
// nftables, or legacy), what they can do, and which of Signpost's chains are
// already there. Bulk goes through iptables-restore, by a runner of its own; go-iptables
// does what touches single rules in other people's chains.
//
// # Network namespaces
//
// Programs are started from the goroutine that calls, and inherit the network
// namespace of its thread. To work in another namespace, lock the goroutine to a
// thread that is in it for all calls. No function here starts a goroutine that
// starts a program.
package iptables
