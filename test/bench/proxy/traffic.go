package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/test/host"
	"github.com/signpost-dev/signpost/test/netlab"
)

// podRange is where the pods of the host are; anyA and anyB are ranges all of
// whose addresses the pods a and b have.
const podRange = "10.0.1.0/24"

var (
	anyA = netip.MustParsePrefix("10.128.0.0/10")
	anyB = netip.MustParsePrefix("10.192.0.0/10")
)

// patience is how long a connection may take.
const patience = 200 * time.Millisecond

// equip gives the pods a and b their ranges, and servers.
func equip(h *host.Host) error {
	for i, p := range h.Pods {
		var all netip.Prefix
		switch p.Name {
		case "a":
			all = anyA
		case "b":
			all = anyB
		default:
			continue
		}
		if err := p.Do(func() error {
			return route("lo", all, netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST})
		}); err != nil {
			return err
		}
		gateway := netlink.Route{Gw: p.Addrs[0].AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := h.Node.Do(func() error { return route(fmt.Sprint("pod", i+1), all, gateway) }); err != nil {
			return err
		}
		if _, err := p.Serve("tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), endpointPort)); err != nil {
			return err
		}
	}
	return nil
}

func route(link string, to netip.Prefix, r netlink.Route) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	r.LinkIndex = l.Attrs().Index
	r.Dst = &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())}
	if err := netlink.RouteAdd(&r); err != nil {
		return fmt.Errorf("route %s by %s: %w", to, link, err)
	}
	return nil
}

// connect connects, and reads the first letter of the answer if ask is set. It returns
// how long the connection took to be there. It has to be called in the namespace
// of the client, on its thread.
func connect(to netip.AddrPort, ask bool) (from byte, took time.Duration, err error) {
	for {
		// Go's scheduler interrupts threads by signals, which ends system calls.
		if from, took, err = connectOnce(to, ask); !errors.Is(err, unix.EINTR) {
			return from, took, err
		}
	}
}

func connectOnce(to netip.AddrPort, ask bool) (from byte, took time.Duration, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return 0, 0, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return 0, 0, err
	}
	// A reset at the end, so that no port waits.
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return 0, 0, fmt.Errorf("connect to %s: %w", to, err)
	}
	took = time.Since(begin)
	if !ask {
		return 0, took, nil
	}
	var b [64]byte
	n, err := unix.Read(fd, b[:])
	switch {
	case err != nil:
		return 0, took, fmt.Errorf("no answer from %s: %w", to, err)
	case n == 0:
		return 0, took, fmt.Errorf("no answer from %s: %w", to, io.ErrUnexpectedEOF)
	}
	return b[0], took, nil
}

// place is somewhere to connect to, and from where.
type place struct {
	name string
	from *netlab.Namespace
	to   netip.AddrPort
}

// inARow is how many connections are made to a place before it is the next one's turn.
const inARow = 20

// costs connects n times to each place, and returns the times of each. They take
// turns, as what else the machine does changes from second to second.
func costs(n int, places []place) (map[string][]time.Duration, error) {
	out := map[string][]time.Duration{}
	turn := make(chan struct{}, 1)
	var group errgroup.Group
	for _, p := range places {
		group.Go(func() error {
			return p.from.Do(func() error {
				for i := 0; i < n; i += inARow {
					turn <- struct{}{}
					out[p.name] = append(out[p.name], p.some()...) // turn guards it
					<-turn
				}
				return nil
			})
		})
	}
	return out, group.Wait()
}

// some makes the connections of one turn. One that is not there within patience counts as
// having taken so long.
func (p place) some() []time.Duration {
	var out []time.Duration
	for i := range inARow + 1 {
		_, took, err := connect(p.to, false)
		if err != nil {
			took = patience
		}
		if i > 0 { // the first one finds the caches cold
			out = append(out, took)
		}
	}
	return out
}

// percentile returns the value that so many of the times, of 1, do not exceed; 0 if there are none.
func percentile(times []time.Duration, share float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}
