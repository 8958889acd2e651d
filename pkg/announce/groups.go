package announce

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// groups are the groups of IPv6 that a link is in so that questions about addresses
// get to this node: without that neither its interface nor the switches would
// pass them on. Nothing is read from its sockets. It is for one goroutine at a time.
type groups struct {
	index int
	// sockets have joined; the kernel limits how many groups one of them can.
	sockets []int
	joined  map[netip.Addr]int // the socket
}

func newGroups(index int) *groups { return &groups{index: index, joined: map[netip.Addr]int{}} }

// follow joins the groups of these addresses, and leaves all others.
func (g *groups) follow(addresses []netip.Addr) error {
	wanted := map[netip.Addr]bool{}
	for _, a := range addresses {
		if a.Is6() {
			wanted[frame.SolicitedNode(a)] = true
		}
	}
	for group, socket := range g.joined {
		if !wanted[group] {
			_ = unix.SetsockoptIPv6Mreq(socket, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, g.request(group)) // or the link is gone
			delete(g.joined, group)
		}
	}
	var errs []error
	for group := range wanted {
		if _, is := g.joined[group]; !is {
			errs = append(errs, g.join(group))
		}
	}
	return errors.Join(errs...)
}

func (g *groups) request(group netip.Addr) *unix.IPv6Mreq {
	return &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.index)}
}

// join joins a group with the last socket, or with a new one if that is full.
func (g *groups) join(group netip.Addr) error {
	full := len(g.sockets) == 0
	for range 2 {
		if full {
			socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("socket for groups: %w", err)
			}
			g.sockets = append(g.sockets, socket)
		}
		socket := g.sockets[len(g.sockets)-1]
		err := unix.SetsockoptIPv6Mreq(socket, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, g.request(group))
		switch {
		case err == nil:
			g.joined[group] = socket
			return nil
		case full || !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ENOMEM):
			return fmt.Errorf("join %v: %w", group, err)
		}
		full = true
	}
	return nil
}

func (g *groups) close() {
	for _, socket := range g.sockets {
		_ = unix.Close(socket) // which leaves its groups
	}
	g.sockets, g.joined = nil, map[netip.Addr]int{}
}
