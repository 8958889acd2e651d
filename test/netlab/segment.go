package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// The addresses of the hosts of a Segment, numbered from 1.
const (
	segmentNet4 = "192.0.2."
	segmentNet6 = "2001:db8::"
)

// Segment is some hosts on one Ethernet link: a bridge in a namespace of its own
// with a cable to each of them.
type Segment struct {
	// Bridge forwards between the hosts and has no address.
	Bridge *Namespace
	// Hosts have 192.0.2.1/24 and 2001:db8::1/64 and so on at their eth0.
	Hosts []*Namespace
}

// NewSegment makes a Segment. Call Close.
func NewSegment(hosts ...string) (*Segment, error) {
	s := &Segment{}
	if err := s.build(hosts); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

const bridgeName = "br0"

func (s *Segment) build(hosts []string) error {
	var err error
	if s.Bridge, err = newNamespace("bridge"); err != nil {
		return err
	}
	if err := s.Bridge.Do(func() error {
		// Without snooping, groups get everywhere at once, as they do on most switches.
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}, MulticastSnooping: new(bool)}
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		return netlink.LinkSetUp(bridge)
	}); err != nil {
		return fmt.Errorf("making a bridge: %w", err)
	}
	for i, name := range hosts {
		host, err := newNamespace(name)
		if err != nil {
			return err
		}
		s.Hosts = append(s.Hosts, host)
		if err := s.plug(host, i+1); err != nil {
			return fmt.Errorf("joining %s to the bridge: %w", name, err)
		}
	}
	return nil
}

func (s *Segment) plug(host *Namespace, i int) error {
	const farLink = "eth0"
	far := []netip.Prefix{prefix(fmt.Sprint(segmentNet4, i), 24), prefix(fmt.Sprintf("%s%x", segmentNet6, i), 64)}
	for _, p := range far {
		host.Addrs = append(host.Addrs, p.Addr())
	}
	if err := s.Bridge.Do(func() error {
		bridge, err := netlink.LinkByName(bridgeName)
		if err != nil {
			return err
		}
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: host.Name, MasterIndex: bridge.Attrs().Index},
			PeerName:  farLink, PeerNamespace: netlink.NsFd(host.handle),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	}); err != nil {
		return err
	}
	return host.Do(func() error { return configure(farLink, far) })
}

// Plug puts the cable of a host into the bridge, or pulls it out.
func (s *Segment) Plug(host string, in bool) error {
	return s.Bridge.Do(func() error {
		link, err := netlink.LinkByName(host)
		if err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
		if in {
			return netlink.LinkSetUp(link)
		}
		return netlink.LinkSetDown(link)
	})
}

// Host returns the host of that name.
func (s *Segment) Host(name string) *Namespace {
	i := slices.IndexFunc(s.Hosts, func(h *Namespace) bool { return h.Name == name })
	if i < 0 {
		panic("netlab: no host " + name)
	}
	return s.Hosts[i]
}

// Close removes everything.
func (s *Segment) Close() error {
	var errs []error
	for _, n := range append(slices.Clone(s.Hosts), s.Bridge) {
		if n != nil {
			errs = append(errs, n.close())
		}
	}
	return errors.Join(errs...)
}
