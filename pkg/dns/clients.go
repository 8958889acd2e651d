package dns

import (
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
)

// allowed returns which clients may ask at an address. A server that answers anybody is an
// amplifier for attacks on others, and the addresses of a node may be reachable from
// anywhere; even a cluster IP is, for who sends packets to it to the node.
func (s *Server) allowed(b binding) func(netip.Addr) bool {
	return func(client netip.Addr) bool {
		var node model.Node
		if snapshot := s.view().Snapshot(); snapshot != nil {
			node = snapshot.Node
		}
		// A process of the node asks from the address that it asks at.
		return client == b.addr.Addr() || isClient(client, node, s.opts.ClientRanges)
	}
}

// isClient reports whether client is of the node, or of the cluster as far as that is known.
func isClient(client netip.Addr, node model.Node, clients []netip.Prefix) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(client) }
	switch {
	case client.IsLoopback() || slices.Contains(node.Addrs, client) || slices.ContainsFunc(node.PodCIDRs, contains):
		return true
	case len(clients) > 0:
		return slices.ContainsFunc(clients, contains)
	}
	return client.IsPrivate() || client.IsLinkLocalUnicast() || sharedSpace().Contains(client) || isNear(client, node)
}

// isNear reports whether client has a public address like the node's, or its pods'.
func isNear(client netip.Addr, node model.Node) bool {
	near := func(a netip.Addr) bool {
		bits := 56
		if a.Is4() {
			bits = 24
		}
		prefix, err := a.Prefix(bits)
		return err == nil && prefix.Contains(client)
	}
	return slices.ContainsFunc(node.Addrs, near) ||
		slices.ContainsFunc(node.PodCIDRs, func(p netip.Prefix) bool { return near(p.Addr()) })
}

// sharedSpace is 100.64.0.0/10, which many clusters give to their pods.
func sharedSpace() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10)
}
