package announce

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// link is an interface of this machine where addresses can be announced.
type link struct {
	index int
	name  string
	mac   frame.MAC
	// prefixes are its addresses, each with the length of its network's prefix.
	prefixes []netip.Prefix
}

// source is where advertisements of IPv6 come from: an address of the link alone,
// if it has one. It is not valid if the link has none of IPv6.
func (l *link) source() netip.Addr {
	var out netip.Addr
	for _, p := range l.prefixes {
		if a := p.Addr(); a.Is6() && (!out.IsValid() || a.IsLinkLocalUnicast()) {
			out = a
		}
	}
	return out
}

func (l *link) equal(o *link) bool {
	return l.index == o.index && l.name == o.name && l.mac == o.mac && slices.Equal(l.prefixes, o.prefixes)
}

// readLinks returns the links that are up, and on which one has to ask who has an
// address, ordered by index; and all addresses that this machine has itself.
func readLinks() ([]link, map[netip.Addr]bool, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	var out []link
	for _, l := range all {
		a := l.Attrs()
		const need, mustNot = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_BROADCAST, unix.IFF_LOOPBACK | unix.IFF_NOARP
		if a.RawFlags&need == need && a.RawFlags&mustNot == 0 && len(a.HardwareAddr) == len(frame.MAC{}) {
			out = append(out, link{index: a.Index, name: a.Name, mac: frame.MAC(a.HardwareAddr)})
		}
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses of interfaces: %w", err)
	}
	own := map[netip.Addr]bool{}
	for _, a := range addresses {
		at, ok := netip.AddrFromSlice(a.IP)
		own[at.Unmap()] = true
		i := slices.IndexFunc(out, func(l link) bool { return l.index == a.LinkIndex })
		if ok && i >= 0 && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			bits, _ := a.Mask.Size()
			out[i].prefixes = append(out[i].prefixes, netip.PrefixFrom(at.Unmap(), bits))
		}
	}
	for i := range out {
		slices.SortFunc(out[i].prefixes, netip.Prefix.Compare)
	}
	slices.SortFunc(out, func(a, b link) int { return cmp.Compare(a.index, b.index) })
	return out, own, nil
}

// at returns the links at which to announce an address, by index: those that are
// named; else those in whose network it is; else those that have one of the node's
// own addresses. Of two links to the same network the first one counts.
func at(links []link, address netip.Addr, named []string, own []netip.Addr) []int {
	if address.Is6() {
		links = slices.DeleteFunc(slices.Clone(links), func(l link) bool { return !l.source().IsValid() })
	}
	if len(named) > 0 {
		return choose(links, func(l *link) (netip.Prefix, bool) { return netip.Prefix{}, slices.Contains(named, l.name) })
	}
	near := choose(links, func(l *link) (netip.Prefix, bool) {
		return first(l.prefixes, func(p netip.Prefix) bool { return p.Contains(address) })
	})
	if len(near) > 0 {
		return near
	}
	return choose(links, func(l *link) (netip.Prefix, bool) {
		return first(l.prefixes, func(p netip.Prefix) bool { return slices.Contains(own, p.Addr()) })
	})
}

// choose returns the links that fit, but only one of those to the same network.
func choose(links []link, fits func(*link) (network netip.Prefix, ok bool)) []int {
	var out []int
	seen := map[netip.Prefix]bool{}
	for i := range links {
		network, ok := fits(&links[i])
		if !ok || network.IsValid() && seen[network.Masked()] {
			continue
		}
		if network.IsValid() {
			seen[network.Masked()] = true
		}
		out = append(out, links[i].index)
	}
	return out
}

func first(in []netip.Prefix, fits func(netip.Prefix) bool) (netip.Prefix, bool) {
	if i := slices.IndexFunc(in, fits); i >= 0 {
		return in[i], true
	}
	return netip.Prefix{}, false
}
