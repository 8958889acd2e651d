//go:build netns

package conntrack

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/proxy/conntrack/stale"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
	"github.com/signpost-dev/signpost/test/netlab"
)

// hall is a namespace with entries in its table of connections.
type hall struct {
	*netlab.Lab
	tb     testing.TB
	tables map[ruleset.Family]*kernel
}

func newHall(tb testing.TB) *hall {
	lab, err := netlab.New()
	if err != nil {
		tb.Fatal(err)
	}
	h := &hall{Lab: lab, tb: tb, tables: map[ruleset.Family]*kernel{}}
	tb.Cleanup(func() {
		for _, table := range h.tables {
			table.Close()
		}
		if err := lab.Close(); err != nil {
			tb.Error(err)
		}
	})
	err = lab.Node.Do(func() error {
		for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			table, err := Open(tb.Context(), f)
			if err != nil {
				return err
			}
			h.tables[f] = table.(*kernel)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// enter makes an entry as `conntrack -I` does.
func (h *hall) enter(args string) {
	h.tb.Helper()
	if _, err := h.Node.Command(h.tb.Context(), "", "conntrack", append([]string{"-I", "-t", "600"}, strings.Fields(args)...)...); err != nil {
		h.tb.Fatal(err)
	}
}

// seen returns what passes the filter.
func (h *hall) seen(family ruleset.Family, f stale.Filter) []stale.Flow {
	h.tb.Helper()
	var out []stale.Flow
	n, err := h.tables[family].Cut(h.tb.Context(), f, func(flow stale.Flow) bool {
		out = append(out, flow)
		return false
	})
	if err != nil || n != 0 {
		h.tb.Errorf("looking with %+v: %d cut, %v", f, n, err)
	}
	return out
}

// TestFilters holds that the kernel filters, and what.
func TestFilters(t *testing.T) {
	h := newHall(t)
	for _, args := range []string{
		"-p udp -s 10.0.0.1 -d 10.96.0.1 --sport 1 --dport 53 -g 10.0.1.1:5353 -u SEEN_REPLY,ASSURED",
		"-p udp -s 10.0.0.1 -d 10.96.0.1 --sport 2 --dport 53 -g 10.0.1.2:5353 -u SEEN_REPLY",
		"-p udp -s 10.0.0.1 -d 10.96.0.2 --sport 3 --dport 53",
		"-p udp -s 10.0.0.1 -d 10.96.0.2 --sport 9 --dport 54 -w 7",
		"-p tcp -s 10.0.0.1 -d 10.96.0.1 --sport 4 --dport 53 -g 10.0.1.1:5353 --state SYN_SENT",
		"-p tcp -s 10.0.0.1 -d 10.96.0.1 --sport 5 --dport 53 -g 10.0.1.2:5353 --state ESTABLISHED -u SEEN_REPLY,ASSURED",
		"-p tcp -s 10.0.0.1 -d 10.96.0.1 --sport 6 --dport 53 -g 10.0.1.3:5353 --state SYN_RECV -u SEEN_REPLY",
		"-p sctp -s 10.0.0.1 -d 10.96.0.1 --sport 7 --dport 53 -g 10.0.1.1:5353 --orig-vtag 1 --reply-vtag 2 --state COOKIE_ECHOED -u SEEN_REPLY",
		"-p sctp -s 10.0.0.1 -d 10.96.0.1 --sport 8 --dport 53 -g 10.0.1.2:5353 --orig-vtag 1 --reply-vtag 2 --state ESTABLISHED -u SEEN_REPLY,ASSURED",
		"-p udp -s fd00::1 -d fd96::1 --sport 11 --dport 53 -g [fd01::1]:5353",
		"-p udp -s fd00::1 -d fd96::2 --sport 12 --dport 53 -g [fd01::2]:5353",
		"-p udp -s fd00::1 -d fd96::2 --sport 13 --dport 54",
	} {
		h.enter(args)
	}
	addr, at := netip.MustParseAddr, netip.MustParseAddrPort
	for _, tt := range []struct {
		family ruleset.Family
		filter stale.Filter
		want   string // the client's ports
	}{
		{ruleset.IPv4, stale.Filter{}, "1 2 3 4 5 6 7 8 9"},
		{ruleset.IPv6, stale.Filter{}, "11 12 13"},
		{ruleset.IPv4, stale.Filter{Protocol: stale.UDP}, "1 2 3 9"},
		{ruleset.IPv4, stale.Filter{Protocol: stale.SCTP}, "7 8"},
		{ruleset.IPv4, stale.Filter{To: addr("10.96.0.2")}, "3 9"},
		{ruleset.IPv4, stale.Filter{Protocol: stale.UDP, ToPort: 53}, "1 2 3"},
		{ruleset.IPv4, stale.Filter{Protocol: stale.UDP, To: addr("10.96.0.2"), ToPort: 53}, "3"},
		{ruleset.IPv4, stale.Filter{Protocol: stale.UDP, Server: at("10.0.1.2:5353")}, "2"},
		{ruleset.IPv4, stale.Filter{Server: at("10.0.1.2:5353")}, "2 5 8"}, // the port needs a protocol
		{ruleset.IPv4, stale.Filter{Protocol: stale.TCP, To: addr("10.96.0.1"), ToPort: 53, Server: at("10.0.1.3:5353")}, "6"},
		{ruleset.IPv4, stale.Filter{Protocol: stale.UDP, Translated: true}, "1 2"},
		{ruleset.IPv4, stale.Filter{Protocol: stale.UDP, Unanswered: true}, "3 9"},
		{ruleset.IPv4, stale.Filter{Protocol: stale.TCP, Unassured: true}, "4 6"},
		{ruleset.IPv4, stale.Filter{Unassured: true, Translated: true}, "2 4 6 7"},
		// An address of IPv6 is no help.
		{ruleset.IPv6, stale.Filter{Protocol: stale.UDP, To: addr("fd96::2"), ToPort: 53}, "11 12"},
		{ruleset.IPv6, stale.Filter{Protocol: stale.UDP, Server: at("[fd01::1]:5353"), Translated: true}, "11 12"},
	} {
		if got := h.clients(tt.family, tt.filter); got != tt.want {
			t.Errorf("%s %+v: the kernel shows what comes from ports %s, want %s", tt.family, tt.filter, got, tt.want)
		}
	}
	if h.tables[ruleset.IPv4].unfiltered || h.tables[ruleset.IPv6].unfiltered {
		t.Error("this kernel is taken for one that cannot filter")
	}
}

// clients returns the ports that flows which pass the filter come from.
func (h *hall) clients(family ruleset.Family, f stale.Filter) string {
	h.tb.Helper()
	var ports []int
	err := h.tables[family].reads.dump(h.tb.Context(), getRequest(h.tables[family].netFamily(), f), func(data []byte) {
		for kind, a := range attributes(data[nl.SizeofNfgenmsg:]) {
			if kind == nl.CTA_TUPLE_ORIG {
				ports = append(ports, int(parseTuple(a.value).sport))
			}
		}
	})
	if err != nil {
		h.tb.Errorf("looking with %+v: %v", f, err)
	}
	slices.Sort(ports)
	return strings.Trim(fmt.Sprint(ports), "[]")
}

// TestCut deletes entries of each kind, more of them than go into one message, and no others.
func TestCut(t *testing.T) {
	h := newHall(t)
	for _, args := range []string{
		"-p udp -s 10.0.0.1 -d 10.96.0.1 --sport 1 --dport 53 -g 10.0.1.1:5353",
		"-p udp -s 10.0.0.1 -d 10.96.0.1 --sport 1 --dport 53 -g 10.0.1.1:5353 -w 7", // the same in another zone
		"-p tcp -s 10.0.0.1 -d 10.96.0.1 --sport 4 --dport 53 -g 10.0.1.1:5353 --state SYN_SENT",
		"-p sctp -s 10.0.0.1 -d 10.96.0.1 --sport 7 --dport 53 -g 10.0.1.1:5353 --orig-vtag 1 --reply-vtag 2 --state COOKIE_WAIT",
		"-p udp -s 10.0.0.1 -d 10.96.0.1 --sport 2 --dport 53 -g 10.0.1.2:5353",
		"-p tcp -s 10.0.0.1 -d 10.96.0.1 --sport 5 --dport 53 -g 10.0.1.1:5353 --state ESTABLISHED -u SEEN_REPLY",
		"-p icmp -s 10.0.0.1 -d 10.96.0.1 --icmp-type 8 --icmp-code 0 --icmp-id 1",
	} {
		h.enter(args)
	}
	h.fill(500, 0)
	h.fill(500, 1)
	cut := func(flow stale.Flow) bool {
		return flow.Server.Addr() == netip.MustParseAddr("10.0.1.1") && (flow.Protocol == stale.UDP || flow.HalfOpen)
	}
	if n, err := h.tables[ruleset.IPv4].Cut(t.Context(), stale.Filter{}, cut); n != 504 || err != nil {
		t.Errorf("cut %d, %v, want 504", n, err)
	}
	left := h.seen(ruleset.IPv4, stale.Filter{})
	if len(left) != 502 || slices.ContainsFunc(left, cut) {
		t.Errorf("left are %d, want 502", len(left))
	}
	out, err := h.Node.Command(t.Context(), "", "conntrack", "-L", "-p", "icmp")
	if err != nil || !strings.Contains(out, "10.96.0.1") {
		t.Errorf("the flow that is no Service's: %q, %v", out, err)
	}
	h.enter("-p udp -s fd00::1 -d fd96::1 --sport 1 --dport 53 -g [fd01::1]:5353")
	if n, err := h.tables[ruleset.IPv6].Cut(t.Context(), stale.Filter{Protocol: stale.UDP}, func(stale.Flow) bool { return true }); n != 1 || err != nil {
		t.Errorf("IPv6: cut %d, %v, want 1", n, err)
	}
}

// TestCutTooLate holds that an entry that has gone in the meantime is no error. A
// successor with the same addresses and ports is another entry to the kernel,
// unless it has got the same place in memory; so nothing can be held of it.
func TestCutTooLate(t *testing.T) {
	h := newHall(t)
	h.enter("-p udp -s 10.0.0.1 -d 10.96.0.1 --sport 1 --dport 53 -g 10.0.1.1:5353")
	n, err := h.tables[ruleset.IPv4].Cut(t.Context(), stale.Filter{Protocol: stale.UDP}, func(stale.Flow) bool {
		if _, err := h.Node.Command(t.Context(), "", "conntrack", "-D", "-p", "udp"); err != nil {
			t.Error(err)
		}
		return true
	})
	if n != 0 || err != nil {
		t.Errorf("cut %d, %v, want none", n, err)
	}
}

// TestAddresses holds that the node's addresses are found, of each family.
func TestAddresses(t *testing.T) {
	h := newHall(t)
	for i, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		got, err := h.tables[family].Addresses()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []netip.Addr{h.Node.Addrs[i], []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}[i]} {
			if _, ok := got[want]; !ok {
				t.Errorf("%s: %s is not among %v", family, want, got)
			}
		}
	}
}

// fill makes n entries of UDP to 10.96.0.9:53, whose server is 10.0.1.1:5353 or, for
// odd, 10.0.1.2:5353.
func (h *hall) fill(n, odd int) {
	h.tb.Helper()
	err := h.Node.Do(func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer handle.Close()
		for i := range n {
			client := net.IPv4(10, byte(1+odd), byte(i>>16), byte(i>>8)).To4()
			port := uint16(1000 + i&255)
			if err := handle.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, &netlink.ConntrackFlow{
				FamilyType: unix.AF_INET, TimeOut: 600,
				Forward: netlink.IPTuple{SrcIP: client, DstIP: net.IPv4(10, 96, 0, 9).To4(), SrcPort: port, DstPort: 53, Protocol: uint8(stale.UDP)},
				Reverse: netlink.IPTuple{SrcIP: net.IPv4(10, 0, 1, byte(1+odd)).To4(), DstIP: client, SrcPort: 5353, DstPort: port, Protocol: uint8(stale.UDP)},
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.tb.Fatal(err)
	}
}

// BenchmarkLook measures one reading of a table of 200,000 flows of UDP, by how
// many of them pass the kernel's filter.
func BenchmarkLook(b *testing.B) {
	h := newHall(b)
	look := func(b *testing.B, f stale.Filter) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			if _, err := h.tables[ruleset.IPv4].Cut(b.Context(), f, func(stale.Flow) bool { n++; return false }); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n), "passed")
		}
	}
	b.Run("empty", func(b *testing.B) { look(b, stale.Filter{Protocol: stale.UDP}) })
	h.fill(199_000, 0)
	h.fill(1_000, 1)
	b.Run("none", func(b *testing.B) { look(b, stale.Filter{Protocol: stale.UDP, ToPort: 54}) })
	b.Run("endpoint", func(b *testing.B) {
		look(b, stale.Filter{Protocol: stale.UDP, Server: netip.MustParseAddrPort("10.0.1.2:5353")})
	})
	b.Run("all", func(b *testing.B) { look(b, stale.Filter{}) })
}

// BenchmarkCut measures deletion, per entry.
func BenchmarkCut(b *testing.B) {
	h := newHall(b)
	done := 0
	for done < b.N {
		b.StopTimer()
		n := min(b.N-done, 50_000)
		h.fill(n, 0)
		b.StartTimer()
		cut, err := h.tables[ruleset.IPv4].Cut(b.Context(), stale.Filter{Protocol: stale.UDP}, func(stale.Flow) bool { return true })
		if err != nil || cut != n {
			b.Fatalf("cut %d of %d: %v", cut, n, err)
		}
		done += n
	}
}
