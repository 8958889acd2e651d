package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// The nodes, the host outside and this machine are on one bridge. Each node
// routes the pods of the other by the other's address, as does this machine.

// ensureBridge makes the bridge. Its alias is the cluster's folder: that is how a
// cluster in another folder is noticed.
func (c *cluster) ensureBridge() error {
	link, err := netlink.LinkByName(bridgeName)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = bridgeName
		link = &netlink.Bridge{LinkAttrs: attrs}
		err = netlink.LinkAdd(link)
		if err == nil {
			err = netlink.LinkSetAlias(link, c.paths.dir)
		}
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridgeName, err)
	}
	if err := netlink.AddrReplace(link, address(hostIP)); err != nil {
		return fmt.Errorf("bridge %s: address %s: %w", bridgeName, hostIP, err)
	}
	return netlink.LinkSetUp(link)
}

// bridgeOwner returns the folder of the cluster that the bridge belongs to, or
// empty if there is no bridge.
func bridgeOwner() (string, error) {
	link, err := netlink.LinkByName(bridgeName)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if link.Attrs().Alias == "" {
		return "an unknown cluster", nil
	}
	return link.Attrs().Alias, nil
}

// connect puts a host on the bridge: with eth0, and a default route if it is a node.
func connect(host process, name, ip string, routes map[string]string) error {
	ns, err := netns.GetFromPid(host.PID)
	if err != nil {
		return fmt.Errorf("network of %s: %w", name, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("network of %s: %w", name, err)
	}
	defer inside.Close()
	if _, err := inside.LinkByName("eth0"); errors.As(err, new(netlink.LinkNotFoundError)) {
		err := addVeth(vethName(name), ns)
		if err != nil {
			return fmt.Errorf("link of %s: %w", name, err)
		}
	}
	if err := configure(inside, ip, routes); err != nil {
		return fmt.Errorf("network of %s: %w", name, err)
	}
	return nil
}

// vethName is this machine's end of a host's link.
func vethName(host string) string { return "sp-" + host }

func addVeth(name string, ns netns.NsHandle) error {
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = name, bridge.Attrs().Index
	// The end of a host that has ended may still be there for a moment.
	if old, err := netlink.LinkByName(name); err == nil {
		if err := netlink.LinkDel(old); err != nil && !errors.Is(err, syscall.ENODEV) {
			return err
		}
	}
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return netlink.LinkSetUp(veth)
}

// configure gives a host its address and its routes, by destination.
func configure(h *netlink.Handle, ip string, routes map[string]string) error {
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
		if name == "lo" {
			continue
		}
		if err := h.AddrReplace(link, address(ip)); err != nil {
			return fmt.Errorf("address %s: %w", ip, err)
		}
	}
	for destination, via := range routes {
		if err := h.RouteReplace(route(destination, via)); err != nil {
			return fmt.Errorf("route to %s: %w", destination, err)
		}
	}
	return nil
}

// nodeRoutes are the routes of one node: to the pods of the others, and by way of
// this machine to all else.
func nodeRoutes(self node) map[string]string {
	routes := map[string]string{"0.0.0.0/0": hostIP}
	for _, other := range nodes() {
		if other != self {
			routes[other.podCIDR()] = other.ip()
		}
	}
	return routes
}

// routeToPods makes this machine reach the pods.
func routeToPods() error {
	for _, n := range nodes() {
		if err := netlink.RouteReplace(route(n.podCIDR(), n.ip())); err != nil {
			return fmt.Errorf("route to %s: %w", n.podCIDR(), err)
		}
	}
	return nil
}

// removeLinks removes the links, and with them their addresses and routes.
func removeLinks() error {
	names := []string{vethName(outsideHost), bridgeName}
	for _, n := range nodes() {
		names = append(names, vethName(n.String()))
	}
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		// The kernel removes a link itself when the namespace of its peer goes.
		if err != nil && !errors.Is(err, syscall.ENODEV) {
			return fmt.Errorf("remove the link %s: %w", name, err)
		}
	}
	return nil
}

func address(ip string) *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(netip.MustParseAddr(ip), prefixBits))}
}

func route(destination, via string) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(netip.MustParsePrefix(destination)),
		Gw:  netip.MustParseAddr(via).AsSlice(),
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
