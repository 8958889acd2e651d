package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// The addresses of a Lab. Pods are numbered from 1.
const (
	podNet4     = "10.0.1."
	podNet6     = "fd02:0:0:1::"
	outsideNet4 = "192.168.1."
	outsideNet6 = "fd01::"
)

// Lab is a node with pods, and a host outside of it.
type Lab struct {
	// Node forwards between the others. Its first two addresses are those
	// that Outside reaches it at: 192.168.1.10 and fd01::10.
	Node *Namespace
	// Outside has 192.168.1.20 and fd01::20, and reaches pods and Services through Node.
	Outside *Namespace
	// Pods have 10.0.1.1, fd02:0:0:1::1 and so on.
	Pods []*Namespace
	all  []*Namespace
}

// PodCIDRs are the ranges of the addresses of Pods.
func PodCIDRs() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd02:0:0:1::/64")}
}

// New makes a Lab with as many pods as there are names. Call Close.
func New(pods ...string) (*Lab, error) {
	lab := &Lab{}
	if err := lab.build(pods); err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return lab, nil
}

func (l *Lab) build(pods []string) error {
	var err error
	if l.Node, err = l.namespace("node"); err != nil {
		return err
	}
	for name, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		// A packet that came from outside and would go out there again must not cause redirects: the
		// kernel counts them against its limit of ICMP errors, and sends no error then.
		"ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0",
	} {
		if err := l.Node.Sysctl(name, value); err != nil {
			return fmt.Errorf("setting %s in the node: %w", name, err)
		}
	}
	if l.Outside, err = l.namespace("outside"); err != nil {
		return err
	}
	if err := l.joinOutside(); err != nil {
		return fmt.Errorf("joining outside to the node: %w", err)
	}
	for i, name := range pods {
		pod, err := l.namespace(name)
		if err != nil {
			return err
		}
		l.Pods = append(l.Pods, pod)
		if err := l.joinPod(pod, i+1); err != nil {
			return fmt.Errorf("joining pod %s to the node: %w", name, err)
		}
	}
	return nil
}

func (l *Lab) namespace(name string) (*Namespace, error) {
	n, err := newNamespace(name)
	if err == nil {
		l.all = append(l.all, n)
	}
	return n, err
}

// Close removes everything.
func (l *Lab) Close() error {
	var errs []error
	for _, n := range l.all {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}

// Pod returns the pod of that name.
func (l *Lab) Pod(name string) *Namespace {
	i := slices.IndexFunc(l.Pods, func(p *Namespace) bool { return p.Name == name })
	if i < 0 {
		panic("netlab: no pod " + name)
	}
	return l.Pods[i]
}

func (l *Lab) joinOutside() error {
	near := []netip.Prefix{prefix(outsideNet4+"10", 24), prefix(outsideNet6+"10", 64)}
	far := []netip.Prefix{prefix(outsideNet4+"20", 24), prefix(outsideNet6+"20", 64)}
	if err := l.join(l.Outside, "outside", near, far); err != nil {
		return err
	}
	// A node has a default route, without which it could send nothing to a
	// cluster IP. Outside does not forward: what gets there is lost.
	return l.Node.Do(func() error { return defaultRoutes("outside", far) })
}

// joinPod joins a pod as most network plugins do: a link of its own, a route to
// it in the node, and everything else by the node.
func (l *Lab) joinPod(pod *Namespace, i int) error {
	near := []netip.Prefix{prefix("169.254.1.1", 32), prefix("fe80::1:1", 64)}
	far := []netip.Prefix{prefix(fmt.Sprint(podNet4, i), 32), prefix(fmt.Sprint(podNet6, i), 128)}
	return l.join(pod, fmt.Sprint("pod", i), near, far)
}

// join makes a veth pair between the node (near) and peer (far), and takes the
// peer's default routes through the node.
func (l *Lab) join(peer *Namespace, link string, near, far []netip.Prefix) error {
	const farLink = "eth0"
	for _, p := range far {
		peer.Addrs = append(peer.Addrs, p.Addr())
	}
	if link == "outside" {
		for _, p := range near {
			l.Node.Addrs = append(l.Node.Addrs, p.Addr())
		}
	}
	err := l.Node.Do(func() error {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: link}, PeerName: farLink, PeerNamespace: netlink.NsFd(peer.handle),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return configure(link, near)
	})
	if err != nil {
		return err
	}
	if err := peer.Do(func() error {
		if err := configure(farLink, far); err != nil {
			return err
		}
		return defaultRoutes(farLink, near)
	}); err != nil {
		return err
	}
	return l.Node.Do(func() error { return hostRoutes(link, far) })
}

func prefix(addr string, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.MustParseAddr(addr), bits)
}

// configure brings a link up with addresses that can be used at once.
func configure(name string, addrs []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range addrs {
		if err := netlink.AddrAdd(link, ipAddr(p)); err != nil {
			return fmt.Errorf("%s: address %s: %w", name, p, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// noDAD is IFA_F_NODAD: an IPv6 address can be used without first asking around for
// a second whether somebody has it.
const noDAD = 0x02

func ipAddr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = noDAD
	}
	return a
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func defaultRoutes(name string, gateways []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, g := range gateways {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if g.Addr().Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		err := netlink.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: ipNet(all), Gw: g.Addr().AsSlice(), Flags: int(netlink.FLAG_ONLINK),
		})
		if err != nil {
			return fmt.Errorf("default route by %s: %w", g.Addr(), err)
		}
	}
	return nil
}

func hostRoutes(name string, to []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range to {
		host := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(host), Scope: netlink.SCOPE_LINK}); err != nil {
			return fmt.Errorf("route to %s: %w", host, err)
		}
	}
	return nil
}
