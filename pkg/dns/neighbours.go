package dns

import (
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
)

// allowed returns which clients may ask at an address.
func (s *Server) allowed(b binding) func(netip.Addr) bool {
	if !b.peer {
		return func(netip.Addr) bool { return true }
	}
	return func(client netip.Addr) bool {
		// Without a Snapshot there would be no peer address.
		return isNeighbour(client, s.view().Snapshot().Node)
	}
}

// isNeighbour reports whether client can be of the same cluster as node: it has a
// private address, or a public one near to the node's or its pods'. The node's own
// addresses may be reachable from anywhere, and who answers anybody there is an
// amplifier for attacks on others.
func isNeighbour(client netip.Addr, node model.Node) bool {
	if client.IsPrivate() || client.IsLoopback() || client.IsLinkLocalUnicast() || sharedSpace().Contains(client) {
		return true
	}
	near := func(a netip.Addr) bool {
		bits := 48
		if a.Is4() {
			bits = 16
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
