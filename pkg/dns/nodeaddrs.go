package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	loopback = "lo"
	// label marks our IPv4 addresses, so that we find and remove only those.
	label = "lo:signpost"
	// marks are the flags that mark our IPv6 addresses, which have no labels. No
	// other program has a reason to put all of them onto a loopback interface.
	marks = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_DEPRECATED
)

// routeTimeout is far longer than the kernel takes to make an address local.
const routeTimeout = time.Second

// nodeAddrs are the addresses that we put onto the node's loopback interface.
type nodeAddrs struct{ log *slog.Logger }

// set makes want exist on the node, and if prune is true makes those of ours go
// that are not in it. An address that is on the node already, on whatever
// interface, stays as it is; one of ours that an earlier process left is adopted
// that way. It returns what went wrong, by address.
func (n *nodeAddrs) set(want []netip.Addr, prune bool) map[netip.Addr]error {
	all := func(err error) map[netip.Addr]error {
		out := map[netip.Addr]error{}
		for _, a := range want {
			out[a] = err
		}
		if len(want) == 0 {
			out[netip.Addr{}] = err
		}
		return out
	}
	lo, err := netlink.LinkByName(loopback)
	if err != nil {
		return all(fmt.Errorf("find the interface %s: %w", loopback, err))
	}
	present, err := listAddrs(lo)
	if err != nil {
		return all(err)
	}
	failed := map[netip.Addr]error{}
	for _, a := range want {
		if _, ok := present[a]; ok {
			delete(present, a)
			continue
		}
		if err := addAddr(lo, a); err != nil {
			failed[a] = err
			continue
		}
		n.log.Info("put an address onto the node", "address", a, "interface", loopback)
	}
	if !prune {
		return failed
	}
	for a, addr := range present {
		if !isOurs(addr, lo) {
			continue
		}
		if err := removeAddr(lo, addr); err != nil {
			failed[a] = err
			continue
		}
		n.log.Info("took an address off the node", "address", a, "interface", loopback)
	}
	return failed
}

// Cleanup takes every address off the node that a Server has put there. No
// Server should be running.
func Cleanup(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lo, err := netlink.LinkByName(loopback)
	if err != nil {
		return fmt.Errorf("find the interface %s: %w", loopback, err)
	}
	present, err := listAddrs(lo)
	if err != nil {
		return err
	}
	var errs []error
	for _, addr := range present {
		if isOurs(addr, lo) {
			errs = append(errs, removeAddr(lo, addr))
		}
	}
	return errors.Join(errs...)
}

// listAddrs returns all addresses of the node. One that is on several interfaces
// is returned as it is on the loopback interface, if it is there.
func listAddrs(lo netlink.Link) (map[netip.Addr]netlink.Addr, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for try := 0; try < 5 && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		list, err = netlink.AddrList(nil, netlink.FAMILY_ALL) // others changed theirs meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	out := map[netip.Addr]netlink.Addr{}
	for _, addr := range list {
		a, ok := netip.AddrFromSlice(addr.IP)
		if !ok {
			continue
		}
		a = a.Unmap()
		if _, dup := out[a]; !dup || addr.LinkIndex == lo.Attrs().Index {
			out[a] = addr
		}
	}
	return out, nil
}

func isOurs(addr netlink.Addr, lo netlink.Link) bool {
	if addr.LinkIndex != lo.Attrs().Index {
		return false
	}
	if addr.IP.To4() != nil {
		return addr.Label == label
	}
	ones, bits := addr.Mask.Size()
	return ones == bits && addr.Flags&marks == marks
}

// addAddr adds a as the only address of its network. It must not become the
// source of packets of the node's own: in IPv4 its scope prevents that, in IPv6
// that it is deprecated.
func addAddr(lo netlink.Link, a netip.Addr) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is4() {
		addr.Label, addr.Scope = label, unix.RT_SCOPE_HOST
	} else {
		forever := uint32(math.MaxUint32)
		addr.Flags, addr.ValidLft = unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE, int(forever)
	}
	if err := netlink.AddrAdd(lo, addr); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("put the address onto %s: %w", loopback, err)
	}
	return waitForRoute(a)
}

// waitForRoute returns when the kernel delivers packets for a. It adds the route
// of an IPv6 address a moment after the address; a socket could be bound to it
// before, and packets that the node's rules leave to that socket would be lost.
func waitForRoute(a netip.Addr) error {
	for deadline := time.Now().Add(routeTimeout); ; time.Sleep(time.Millisecond) {
		routes, err := netlink.RouteGet(a.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("the kernel has not made %s a local address after %v", a, routeTimeout), err)
		}
	}
}

func removeAddr(lo netlink.Link, addr netlink.Addr) error {
	if err := netlink.AddrDel(lo, &netlink.Addr{IPNet: addr.IPNet, Label: addr.Label}); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("take %s off %s: %w", addr.IPNet, loopback, err)
	}
	return nil
}
