package model

import "net/netip"

// PodAddress is an address that a pod of a namespace has.
type PodAddress struct {
	Namespace string
	Addr      netip.Addr
}

// Pod is what of a pod of this node decides how it looks for names. Immutable.
type Pod struct {
	Name Name
	// UID tells it from others that had its name.
	UID string
	// HostNetwork is true if its addresses are the node's, too.
	HostNetwork bool
	// DNSPolicy is the field of its specification in the API's spelling; empty for the
	// default.
	DNSPolicy string
	// Searches and Options are those of its dnsConfig, in the API's order.
	Searches []string
	Options  []ResolverOption
}

// ResolverOption is an option of a resolv.conf; without a value, Value is empty.
type ResolverOption struct{ Name, Value string }
