package dns

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// randomServices draws from few names, so that they come, change and go.
func randomServices(rng *rand.Rand) map[model.Name]*model.Service {
	out := map[model.Name]*model.Service{}
	for range 1 + rng.IntN(5) {
		name := model.Name{Namespace: fmt.Sprint("ns", rng.IntN(2)), Name: fmt.Sprint("s", rng.IntN(6))}
		out[name] = randomService(rng, name)
	}
	return out
}

func randomService(rng *rand.Rand, name model.Name) *model.Service {
	svc := &model.Service{Name: name, Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}, {Name: "dns", Protocol: model.UDP, Port: 53}}}
	switch rng.IntN(6) {
	case 0:
		return nil
	case 1:
		svc.ExternalName = []string{"www.example.org", "s1.ns0.svc.cluster.local", "web.default.svc.cluster.local"}[rng.IntN(3)]
		return svc
	case 2, 3:
		svc.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 1, byte(rng.IntN(9))}), netip.MustParseAddr(fmt.Sprintf("fd00:96::%x", rng.IntN(9)+1))}[:1+rng.IntN(2)]
		return svc
	}
	svc.Headless = true
	for range rng.IntN(3) {
		g := model.EndpointGroup{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}}}
		for range rng.IntN([]int{3, 12, 120}[rng.IntN(3)]) {
			e := model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(2)), byte(rng.IntN(250))}), Ready: rng.IntN(5) > 0}
			if rng.IntN(4) == 0 {
				e.Addr = netip.MustParseAddr(fmt.Sprintf("fd00::%x", rng.IntN(250)+1))
			}
			if rng.IntN(4) == 0 {
				e.Hostname = fmt.Sprint("host", rng.IntN(3))
			}
			g.Endpoints = append(g.Endpoints, e)
		}
		svc.Groups = append(svc.Groups, g)
	}
	return svc
}

func randomName(rng *rand.Rand) string {
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	svc := pick("s0", "s1", "s2", "s3", "s4", "s5", "web", "big", "ext") + "." + pick("ns0", "ns1", "default", "none")
	const zone = ".svc.cluster.local."
	name := pick(svc+zone, svc+zone, svc+zone, "_http._tcp."+svc+zone, "_tcp."+svc+zone, "host1."+svc+zone, "10-0-1-7."+svc+zone,
		"www.example.org."+pick("default", "none")+zone, "svc.cluster.local.", "cluster.local.", "ns.dns.cluster.local.", "dns-version.cluster.local.",
		"10-1-2-3.default.pod.cluster.local.", "3.1.96.10.in-addr.arpa.", "7.1.0.10.in-addr.arpa.", "7.113.0.203.in-addr.arpa.", "www.example.org.")
	if rng.IntN(4) > 0 {
		return name
	}
	return strings.Map(func(c rune) rune {
		if 'a' <= c && c <= 'z' && rng.IntN(2) == 0 {
			c -= 'a' - 'A'
		}
		return c
	}, name)
}

func randomRequest(tb testing.TB, rng *rand.Rand) []byte {
	types := []uint16{dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeSOA, dns.TypeNS, dns.TypeHTTPS, dns.TypeANY, dns.TypeCNAME}
	return wireOf(tb, func(m *dns.Msg) {
		m.Question[0] = dns.Question{Name: randomName(rng), Qtype: types[rng.IntN(len(types))], Qclass: dns.ClassINET}
		m.Id = uint16(rng.Uint32())
		m.RecursionDesired, m.CheckingDisabled = rng.IntN(2) == 0, rng.IntN(4) == 0
		if rng.IntN(2) == 0 {
			m.SetEdns0(uint16(rng.IntN(1500)), rng.IntN(2) == 0)
		}
	})
}

// slowly is the reply that is made anew, which is nil if others have to be asked, and
// how many records its answer has in all.
func slowly(tb testing.TB, s *Server, wire []byte, rotation uint32) ([]byte, int) {
	tb.Helper()
	q, rcode, ok := parseQuery(wire)
	if !ok || rcode != dns.RcodeSuccess {
		tb.Fatalf("%x is no question", wire)
	}
	x := &exchange{server: s, meter: s.metrics.meter(netip.AddrPort{}, "udp"), query: q, start: time.Now()}
	if x.begin(rotation); x.wait != nil || x.source != sourceCluster {
		return nil, 0
	}
	n := len(x.reply.Answer)
	out, err := x.pack(q.maxUDP(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return out, n
}

// TestWhatIsKeptIsWhatIsMade holds, over random changes of the cluster, that a reply
// from what is kept packed is octet for octet one that is made anew, and that all beginnings of a
// list come up.
func TestWhatIsKeptIsWhatIsMade(t *testing.T) {
	s, snapshots := newServer(t, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	u := &udpSocket{server: s}
	hits := 0
	for i := range 60 {
		next := *snapshots.current
		next.Services = next.Services.With(randomServices(rng))
		next.Namespaces = map[string]struct{}{"default": {}, "kube-system": {}, fmt.Sprint("ns", rng.IntN(2)): {}}
		next.Generation++
		snapshots.publish(&next)
		s.publish(time.Unix(int64(1000+i), 0)) // another serial number each time
		for range 150 {
			wire := randomRequest(t, rng)
			if !u.hot.parse(wire) {
				t.Fatalf("%x is not read as a question", wire)
			}
			if compareKept(t, s, u, wire, rng) {
				hits++
			}
		}
	}
	if entries, octets := s.book.Load().Size(); entries < 100 || hits < 3000 {
		t.Errorf("%d hits, %d entries of %d octets", hits, entries, octets)
	}
}

// compareKept compares one request's replies and returns whether there is one that
// is kept.
func compareKept(t *testing.T, s *Server, u *udpSocket, wire []byte, rng *rand.Rand) bool {
	t.Helper()
	book := s.book.Load()
	r, elsewhere := u.hot.find(book)
	want, n := slowly(t, s, wire, 0)
	if want == nil && elsewhere {
		return false // for others to answer
	}
	if r == nil {
		r = book.Pack(u.hot.name, u.hot.qtype)
	}
	if r == nil {
		return false
	}
	all := [][]byte{want}
	for i := 1; i < n; i++ {
		turned, _ := slowly(t, s, wire, uint32(i))
		all = append(all, turned)
	}
	ok := false
	for range 5 {
		u.hot.asked.Chance = rng.Uint32()
		var got []byte
		if got, ok = book.Append(nil, r, &u.hot.asked); !ok {
			break
		}
		if want == nil {
			t.Fatalf("%x has an answer, and none that is made", wire)
		}
		found := false
		for _, w := range all {
			found = found || bytes.Equal(w, got)
		}
		if !found {
			var m, first dns.Msg
			_, _ = m.Unpack(got), first.Unpack(want)
			t.Fatalf("kept:\n%v\nis none of %d that are made, such as\n%v\n(%x, %x)", m.String(), len(all), first.String(), got, want)
		}
	}
	return ok
}

// FuzzHotRequest holds that what is read on the short way is what parseQuery reads.
func FuzzHotRequest(f *testing.F) {
	for _, r := range requests(f) {
		f.Add(r.wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var h hotQuery
		if !h.parse(wire) {
			return
		}
		q, rcode, ok := parseQuery(wire)
		if !ok || rcode != dns.RcodeSuccess {
			if q.name == "" { // a name that cannot be written down
				return
			}
			t.Fatalf("read as a question, which is refused with %d", rcode)
		}
		name := make([]byte, maxName+1)
		n, err := dns.PackDomainName(q.name, name, 0, nil, false)
		if err != nil || !bytes.EqualFold(name[:n], h.name) || h.asked.Lower != bytes.Equal(name[:n], h.name) {
			t.Errorf("name %q of %q (%v)", h.name, q.name, err)
		}
		a := h.asked
		if h.qtype != q.qtype || a.ID != q.id || a.RecursionDesired != q.rd || a.CheckingDisabled != q.cd || a.EDNS != q.edns || a.DNSSEC != q.do || a.Limit != q.maxUDP() {
			t.Errorf("read %+v, want %+v", h, q)
		}
	})
}

// BenchmarkHit is all that is done between reading and writing.
func BenchmarkHit(b *testing.B) {
	s, _ := newServer(b, nil)
	s.publish(time.Now())
	u, _ := newSocket(b, s, "127.0.0.1")
	for _, name := range hotNames {
		b.Run(name, func(b *testing.B) {
			wire := hotRequest(b, name)
			u.hot.parse(wire)
			s.book.Load().Pack(u.hot.name, u.hot.qtype)
			b.ReportAllocs()
			for b.Loop() {
				book := s.book.Load()
				u.hot.parse(wire)
				r, _ := u.hot.find(book)
				if u.queued = 0; !u.hit(book, r, 0, len(wire)) {
					b.Fatal("no answer is kept")
				}
			}
		})
	}
}
