package dns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// hotNames are answered from what is kept, in different ways: from a form, by what all
// denials have, and from a part of a list.
var hotNames = [...]string{"web.default.svc.cluster.local.", "www.example.org.default.svc.cluster.local.", "big.default.svc.cluster.local."}

func hotRequest(tb testing.TB, name string) []byte {
	return wireOf(tb, func(m *dns.Msg) {
		m.Question[0] = dns.Question{Name: name, Qtype: dns.TypeA, Qclass: dns.ClassINET}
		m.SetEdns0(1232, false)
	})
}

// listenUDP opens a socket at a random port.
func listenUDP(tb testing.TB, host string) (*net.UDPConn, netip.AddrPort) {
	tb.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// newSocket opens a socket of s that nobody serves yet.
func newSocket(tb testing.TB, s *Server, host string) (*udpSocket, netip.AddrPort) {
	tb.Helper()
	conn, at := listenUDP(tb, host)
	u, err := newUDPSocket(s, conn, at, func(netip.Addr) bool { return true })
	if err != nil {
		tb.Fatal(err)
	}
	return u, at
}

// turn does what serve does for one batch.
func (u *udpSocket) turn(tb testing.TB) {
	if err := u.receive(); err != nil {
		tb.Fatal(err)
	}
	u.shares.pressed = u.pressed
	u.now = time.Now()
	for i := range u.received {
		u.handle(tb.Context(), i)
	}
	u.send()
}

// TestHitsAllocateNothing sends requests through sockets, one at a time and many.
func TestHitsAllocateNothing(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		s, _, served := startServer(t, startUpstream(t).option)
		u, at := newSocket(t, s, host)
		client, _ := listenUDP(t, host)
		in := make([]byte, 4096)
		ask(t, "udp", served, request("www.example.org.", dns.TypeA, 0))
		for _, name := range append(hotNames[:], "www.example.org.") {
			wire := hotRequest(t, name)
			for _, n := range []int{1, batchLen} {
				hit := func() {
					for range n {
						if _, err := client.WriteToUDPAddrPort(wire, at); err != nil {
							t.Fatal(err)
						}
					}
					for answered := 0; answered < n; answered += u.received {
						u.turn(t)
					}
					for range n {
						if _, _, err := client.ReadFromUDPAddrPort(in); err != nil {
							t.Fatal(err)
						}
					}
				}
				hit()
				if allocs := testing.AllocsPerRun(100, hit); allocs != 0 {
					t.Errorf("%s, %s, %d at a time: %v allocations", host, name, n, allocs)
				}
			}
		}
	}
}

// TestWhatIsCachedIsSentAsItIs holds that a reply from the forwarder's cache is the
// one that is made anew of the same answer.
func TestWhatIsCachedIsSentAsItIs(t *testing.T) {
	s, _, addr := startServer(t, startUpstream(t).option)
	u, _ := newSocket(t, s, "127.0.0.1")
	for _, name := range []string{"www.example.org.", "wWw.eXample.org.", "missing.example.org.", "many.example.org."} {
		for bits := range 16 {
			wire := wireOf(t, func(m *dns.Msg) {
				m.Question[0].Name = name
				m.RecursionDesired, m.AuthenticatedData, m.CheckingDisabled = bits&1 != 0, bits&2 != 0, bits&4 != 0
				if bits&8 != 0 {
					m.SetEdns0(1232, bits&1 != 0)
				}
			})
			exchangeUDP(t, addr, wire) // it is known from then on
			want, got := new(dns.Msg), new(dns.Msg)
			slow := slowlyCached(t, s, wire)
			if err := want.Unpack(slow); err != nil {
				t.Fatal(err)
			}
			if !u.hot.parse(wire) {
				t.Fatalf("%x is not read as a question", wire)
			}
			reply, rcode, ok := u.hot.cached(nil, s.forwarder, time.Now())
			if long := name == "many.example.org."; ok == long {
				t.Fatalf("%s: sent as it is: %v", name, ok)
			} else if long {
				continue
			}
			if err := got.Unpack(reply); err != nil {
				t.Fatal(err)
			}
			if rcode != got.Rcode {
				t.Errorf("response code %d of %d", rcode, got.Rcode)
			}
			for _, rr := range slices.Concat(want.Answer, want.Ns, got.Answer, got.Ns) {
				rr.Header().Ttl = 0 // a second may have passed
			}
			if diff := cmp.Diff(want.String(), got.String()); diff != "" {
				t.Errorf("%s, %b:\n%s", name, bits, diff)
			}
		}
	}
}

// slowlyCached is the reply that is made anew of what the forwarder has cached.
func slowlyCached(tb testing.TB, s *Server, wire []byte) []byte {
	tb.Helper()
	q, _, _ := parseQuery(wire)
	var x *exchange
	waitFor(tb, q.name+" to be cached", func() bool {
		x = &exchange{server: s, meter: s.metrics.meter(netip.AddrPort{}, "udp"), query: q, start: time.Now()}
		x.begin(0)
		return x.wait == nil
	})
	out, err := x.pack(q.maxUDP(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// TestBatchesAreAnsweredRight sends different questions from different clients at once.
func TestBatchesAreAnsweredRight(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		s, _ := newServer(t, nil)
		s.publish(time.Now())
		u, at := newSocket(t, s, host)
		var clients []*net.UDPConn
		for range 5 {
			c, _ := listenUDP(t, host)
			clients = append(clients, c)
		}
		const each = 20
		for i := range each {
			for j, c := range clients {
				wire := hotRequest(t, hotNames[(i+j)%len(hotNames)])
				binary.BigEndian.PutUint16(wire, uint16(1000*j+i))
				if _, err := c.WriteToUDPAddrPort(wire, at); err != nil {
					t.Fatal(err)
				}
			}
		}
		for answered := 0; answered < each*len(clients); answered += u.received {
			u.turn(t)
		}
		buf := make([]byte, 4096)
		for j, c := range clients {
			for range each {
				n, from, err := c.ReadFromUDPAddrPort(buf)
				if err != nil {
					t.Fatal(err)
				}
				var m dns.Msg
				if err := m.Unpack(buf[:n]); err != nil {
					t.Fatal(err)
				}
				i := int(m.Id) - 1000*j
				if i < 0 || i >= each || netip.AddrPortFrom(from.Addr().Unmap(), from.Port()) != at || m.Question[0].Name != hotNames[(i+j)%len(hotNames)] {
					t.Fatalf("client %d got %v from %v", j, m.String(), from)
				}
			}
		}
	}
}

// TestWhatIsTooLongIsDropped sends more than a socket reads, and then a question.
func TestWhatIsTooLongIsDropped(t *testing.T) {
	s, _, addr := startServer(t, nil)
	long := bytes.Repeat([]byte{1}, maxUDPSize+1)
	copy(long, wireOf(t, nil))
	if wire := exchangeUDP(t, addr, long); wire != nil {
		t.Errorf("got an answer: %x", wire)
	}
	if n := counted(t, s.metrics.dropped, "too long"); n != 1 {
		t.Errorf("%v are counted as too long", n)
	}
}

// BenchmarkUDP is a request and its reply over loopback, the client's part
// included.
func BenchmarkUDP(b *testing.B) {
	s, _ := newServer(b, nil)
	s.publish(time.Now())
	for _, n := range []int{1, 4, batchLen} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			u, at := newSocket(b, s, "127.0.0.1")
			client, _ := listenUDP(b, "127.0.0.1")
			wire := hotRequest(b, hotNames[0])
			in := make([]byte, 4096)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%n != 0 {
					continue
				}
				for range n {
					if _, err := client.WriteToUDPAddrPort(wire, at); err != nil {
						b.Fatal(err)
					}
				}
				for answered := 0; answered < n; answered += u.received {
					u.turn(b)
				}
				for range n {
					if _, _, err := client.ReadFromUDPAddrPort(in); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
