// Package conntrack cuts tracked connections that lead to what is no more: it is
// the shell around stale, which decides which those are, and the only place that
// speaks netlink with the kernel's connection tracking.
//
// The sync loop hands over which Services' rules are in, and goes on; a Reconciler works
// beside it. After a change it reads the kernel's table once per family and kind of flow. The
// kernel leaves out what the change cannot concern, the rest is decided on entry by
// entry as it streams by, and what is stale is deleted meanwhile, many
// entries to a message: nothing holds a table of a million flows.
//
// It must not import Kubernetes, nor the DNS or controller wings, and it starts
// no programs. Without it packets still go where they should, but for UDP clients that
// never pause and whose endpoint is gone.
package conntrack
