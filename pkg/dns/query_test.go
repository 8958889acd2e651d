package dns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// wireOf packs a message that edit has changed.
func wireOf(tb testing.TB, edit func(*dns.Msg)) []byte {
	tb.Helper()
	m := request("web.default.svc.cluster.local.", dns.TypeA, 0)
	m.Id = 0x1234
	if edit != nil {
		edit(m)
	}
	wire, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return wire
}

// set changes the octets at i.
func set(wire []byte, i int, octets ...byte) []byte {
	copy(wire[i:], octets)
	return wire
}

// requests are what can come, and the response code that it gets; -1 for none.
func requests(tb testing.TB) []struct {
	name  string
	wire  []byte
	rcode int
} {
	opt := func(edit func(*dns.OPT)) func(*dns.Msg) {
		return func(m *dns.Msg) {
			m.SetEdns0(1232, true)
			edit(m.IsEdns0())
		}
	}
	opcode := func(n int) func(*dns.Msg) { return func(m *dns.Msg) { m.Opcode = n } }
	qtype := func(n uint16) func(*dns.Msg) { return func(m *dns.Msg) { m.Question[0].Qtype = n } }
	qclass := func(n uint16) func(*dns.Msg) { return func(m *dns.Msg) { m.Question[0].Qclass = n } }
	longName := func() []byte {
		wire := slices.Clone(wireOf(tb, nil)[:headerLen])
		for range 4 {
			wire = append(wire, 63)
			wire = append(wire, make([]byte, 63)...)
		}
		return append(wire, 0, 0, 1, 0, 1)
	}
	return []struct {
		name  string
		wire  []byte
		rcode int
	}{
		{"a question", wireOf(tb, nil), dns.RcodeSuccess},
		{"a question with EDNS", wireOf(tb, opt(func(*dns.OPT) {})), dns.RcodeSuccess},
		{"a question with an unknown option", wireOf(tb, opt(func(o *dns.OPT) {
			o.Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: []byte("x")}}
		})), dns.RcodeSuccess},
		{"nothing", nil, -1},
		{"less than a header", wireOf(tb, nil)[:11], -1},
		{"a response", wireOf(tb, func(m *dns.Msg) { m.Response = true }), -1},
		{"only a header", wireOf(tb, nil)[:12], -1},
		{"no question", wireOf(tb, func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		{"two questions", wireOf(tb, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		{"an answer in it", set(wireOf(tb, nil), 6, 0, 1), dns.RcodeFormatError},
		{"much authority", set(wireOf(tb, nil), 8, 0xff, 0xff), dns.RcodeFormatError},
		{"many additional records", set(wireOf(tb, nil), 10, 0xff, 0xff), dns.RcodeFormatError},
		{"an additional record that is not there", set(wireOf(tb, nil), 10, 0, 1), -1},
		{"cut in the name", wireOf(tb, nil)[:20], -1},
		{"cut before the type", wireOf(tb, nil)[:len(wireOf(tb, nil))-4], -1},
		{"cut in the OPT record", wireOf(tb, opt(func(*dns.OPT) {}))[:len(wireOf(tb, nil))+5], -1},
		{"a pointer in the name", set(wireOf(tb, nil), 12, 0xc0, 12), -1},
		{"a name that is too long", longName(), -1},
		{"two OPT records", wireOf(tb, func(m *dns.Msg) { m.SetEdns0(1232, false); m.Extra = append(m.Extra, m.Extra[0]) }), dns.RcodeFormatError},
		{"an OPT record with a name", wireOf(tb, opt(func(o *dns.OPT) { o.Hdr.Name = "x." })), dns.RcodeFormatError},
		{"EDNS version 1", wireOf(tb, opt(func(o *dns.OPT) { o.SetVersion(1) })), dns.RcodeBadVers},
		{"IQUERY", wireOf(tb, opcode(dns.OpcodeIQuery)), dns.RcodeNotImplemented},
		{"STATUS", wireOf(tb, opcode(dns.OpcodeStatus)), dns.RcodeNotImplemented},
		{"NOTIFY", wireOf(tb, opcode(dns.OpcodeNotify)), dns.RcodeNotImplemented},
		{"UPDATE", wireOf(tb, opcode(dns.OpcodeUpdate)), dns.RcodeNotImplemented},
		{"AXFR", wireOf(tb, qtype(dns.TypeAXFR)), dns.RcodeRefused},
		{"IXFR", wireOf(tb, func(m *dns.Msg) { m.SetIxfr("cluster.local.", 1, "ns.", "host.") }), dns.RcodeRefused},
		{"class CHAOS", wireOf(tb, qclass(dns.ClassCHAOS)), dns.RcodeRefused},
		{"class ANY", wireOf(tb, qclass(dns.ClassANY)), dns.RcodeRefused},
		{"type ANY", wireOf(tb, qtype(dns.TypeANY)), dns.RcodeSuccess},
	}
}

// TestRequestsOfAllKinds sends them to a server as they are.
func TestRequestsOfAllKinds(t *testing.T) {
	_, _, addr := startServer(t, nil)
	for _, tt := range requests(t) {
		t.Run(tt.name, func(t *testing.T) {
			wire := exchangeUDP(t, addr, tt.wire)
			if tt.rcode < 0 {
				if wire != nil {
					t.Fatalf("got an answer: %x", wire)
				}
				return
			}
			m := new(dns.Msg)
			if err := m.Unpack(wire); err != nil {
				t.Fatalf("%x: %v", wire, err)
			}
			if !m.Response || m.Rcode != tt.rcode || m.Id != binary.BigEndian.Uint16(tt.wire) {
				t.Errorf("got %v, want %s", m, rcodeText(tt.rcode))
			}
		})
	}
}

// exchangeUDP sends wire, and behind it a question that does get an answer. It
// returns the first answer, nil if it is that to the question.
func exchangeUDP(t *testing.T, addr netip.AddrPort, wire []byte) []byte {
	t.Helper()
	conn, err := net.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	marker := wireOf(t, func(m *dns.Msg) { m.Id = 0x4321 })
	for _, w := range [][]byte{wire, marker} {
		if _, err := conn.Write(w); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65535)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if binary.BigEndian.Uint16(buf) == 0x4321 {
		return nil
	}
	return buf[:n]
}

// FuzzRequest handles whatever comes as the server would, short of the sockets:
// no panic, no answer to a response, none larger than the client can receive, and
// each one is a message.
func FuzzRequest(f *testing.F) {
	for _, r := range requests(f) {
		f.Add(r.wire)
	}
	f.Add(wireOf(f, func(m *dns.Msg) { m.Question[0].Name = "big.default.svc.cluster.local."; m.SetEdns0(900, true) }))
	f.Add(wireOf(f, func(m *dns.Msg) {
		m.Question[0] = dns.Question{Name: "_http._tcp.big.default.svc.cluster.local.", Qtype: dns.TypeSRV, Qclass: 1}
	}))
	s, snapshots := newServer(f, nil)
	s.publish(time.Now())
	if s.view().Snapshot() != snapshots.current {
		f.Fatal("no snapshot")
	}
	meter := s.metrics.meter(netip.AddrPort{}, "udp")
	buf := make([]byte, 4096)
	f.Fuzz(func(t *testing.T, wire []byte) {
		q, rcode, ok := parseQuery(wire)
		if !ok {
			return
		}
		x := &exchange{server: s, meter: meter, query: q, source: sourceRefused}
		if rcode != dns.RcodeSuccess {
			x.refuse(rcode)
		} else if x.begin(0); x.wait != nil {
			x.refuse(dns.RcodeServerFailure)
		}
		for _, size := range []int{q.maxUDP(), maxTCPSize} {
			out, err := x.pack(size, buf)
			if err != nil || len(out) > size || len(out) < headerLen {
				t.Fatalf("%d octets of %d, error %v", len(out), size, err)
			}
			m := new(dns.Msg)
			if err := m.Unpack(out); err != nil || m.Id != q.id || !m.Response {
				t.Fatalf("%x: %v", out, err)
			}
			if rcode == dns.RcodeSuccess {
				agree(t, wire, q)
			}
		}
	})
}

// agree compares what was read of an accepted request with what miekg/dns reads.
func agree(t *testing.T, wire []byte, q query) {
	t.Helper()
	m := new(dns.Msg)
	if m.Unpack(wire) != nil {
		return // The contents of additional records are not looked at.
	}
	if len(m.Question) != 1 || m.Question[0].Name != q.name || m.Question[0].Qtype != q.qtype || m.Question[0].Qclass != q.class {
		t.Fatalf("read %+v, want %v", q, m.Question)
	}
	if opt := m.IsEdns0(); (opt != nil) != q.edns || opt != nil && (opt.UDPSize() != q.udpSize || opt.Do() != q.do) {
		t.Fatalf("read %+v, want %v", q, opt)
	}
}

func BenchmarkRequest(b *testing.B) {
	s, _ := newServer(b, nil)
	s.publish(time.Now())
	meter := s.metrics.meter(netip.AddrPort{}, "udp")
	out := make([]byte, 4096)
	for _, bb := range []struct {
		name  string
		qname string
		qtype uint16
	}{
		{"ClusterIP A", "web.default.svc.cluster.local.", dns.TypeA},
		{"NXDOMAIN", "www.example.org.default.svc.cluster.local.", dns.TypeA},
		{"headless 200 A", "big.default.svc.cluster.local.", dns.TypeA},
	} {
		b.Run(bb.name, func(b *testing.B) {
			wire := wireOf(b, func(m *dns.Msg) {
				m.Question[0] = dns.Question{Name: bb.qname, Qtype: bb.qtype, Qclass: dns.ClassINET}
				m.SetEdns0(1232, false)
			})
			b.ReportAllocs()
			for b.Loop() {
				q, _, _ := parseQuery(wire)
				x := &exchange{server: s, meter: meter, query: q, start: time.Now()}
				x.begin(0)
				if _, err := x.pack(q.maxUDP(), out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
