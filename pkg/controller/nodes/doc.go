// Package nodes tells the endpoint controller which nodes are dead, seconds after
// they are: the node controller waits 50 s, and then writes each pod.
//
//	peers ───► what this node hears, and what others do ┐
//	Leases ──► what the control plane hears             ├─► evidence ──► dead
//	                                                    ┘   (pure)
//
// It is the shell around the pure package evidence, for one term of the leader.
// Nobody is asked about a node that answers, so that a healthy cluster costs
// nothing: neither watches nor reads of Leases.
//
// It must not import other shells: peers, and who takes the endpoints out, are
// joined to it by package daemon.
package nodes
