// Package eligible says which load balancer addresses a node may announce: those
// that Services have from Signpost, of pools that are for this node, and with the
// external traffic policy Local only where endpoints are.
//
// It is pure: snapshots and pools in, addresses out. Whether the node's rules know
// an address yet, and who of several nodes announces it, is for others.
package eligible
