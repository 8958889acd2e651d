// Package proxy keeps the node's iptables rules as the latest snapshot of the
// cluster's Services wants them. It is the shell around render (what the rules
// are) and iptables (how they are written): it decides when to write, what to
// do when a write fails, and repairs what others have damaged.
//
// It must not import Kubernetes, nor the DNS or controller wings: Services come
// as model.Snapshots through an interface that is declared here, and pkg/daemon
// joins them. Rules stay when it stops, so that connections do; Cleanup removes
// them.
package proxy
