package healthcheck

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
)

// addresses are where health check ports are answered: of each family the unspecified address,
// if all of the node's addresses answer at node ports, or else those that do.
type addresses struct {
	ipv4, ipv6 []netip.Addr
	// some says that they are not all, and so may change with the node's own.
	some bool
}

// of returns those of one family.
func (a *addresses) of(ipv4 bool) []netip.Addr {
	if ipv4 {
		return a.ipv4
	}
	return a.ipv6
}

// addresses finds out, by asking the kernel only if it has to.
func (s *Server) addresses(node *model.Node) (addresses, error) {
	var out addresses
	ranges4, ranges6 := s.opts.At(node, true), s.opts.At(node, false)
	whole := func(p netip.Prefix) bool { return p.Bits() == 0 }
	all4, all6 := slices.ContainsFunc(ranges4, whole), slices.ContainsFunc(ranges6, whole)
	if all4 {
		out.ipv4 = []netip.Addr{netip.IPv4Unspecified()}
	}
	if all6 {
		out.ipv6 = []netip.Addr{netip.IPv6Unspecified()}
	}
	if out.some = !all4 || !all6; !out.some {
		return out, nil
	}
	own, err := nodeAddresses()
	if err != nil {
		return out, err
	}
	if !all4 {
		out.ipv4 = within(own, ranges4)
	}
	if !all6 {
		out.ipv6 = within(own, ranges6)
	}
	return out, nil
}

// nodeAddresses returns the addresses that others can reach this node at, and those of the
// loopback. A link-local address is no node's alone.
func nodeAddresses() ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("the node's addresses: %w", err)
	}
	var out []netip.Addr
	for _, f := range found {
		ip, ok := f.(*net.IPNet)
		if !ok {
			continue
		}
		if a, ok := netip.AddrFromSlice(ip.IP); ok && !a.Unmap().IsLinkLocalUnicast() {
			out = append(out, a.Unmap())
		}
	}
	return out, nil
}

// within returns each of addrs that is in one of ranges, once.
func within(addrs []netip.Addr, ranges []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		in := slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
		if in && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
