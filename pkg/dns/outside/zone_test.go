package outside

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

func snapshot() *model.Snapshot {
	addrs := func(texts ...string) (out []netip.Addr) {
		for _, t := range texts {
			out = append(out, netip.MustParseAddr(t))
		}
		return out
	}
	ports := []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}, {Protocol: model.UDP, Port: 53}}
	changes := map[model.Name]*model.Service{}
	add := func(namespace, name string, ips ...string) {
		n := model.Name{Namespace: namespace, Name: name}
		changes[n] = &model.Service{Name: n, ClusterIPs: addrs("10.96.0.1"), Ports: ports, LoadBalancerIPs: addrs(ips...)}
	}
	add("shop", "web", "192.0.2.7", "2001:db8::7")
	add("shop", "four", "192.0.2.8", "192.0.2.9")
	add("shop", "inner")
	add("inner", "only")
	var m model.ServiceMap
	return &model.Snapshot{Services: m.With(changes), Namespaces: map[string]struct{}{"shop": {}, "inner": {}, "empty": {}}}
}

const soa = "lb.example.org.\t5\tIN\tSOA\tns1.example.org. hostmaster.lb.example.org. 42 7200 1800 86400 5"

func TestAnswers(t *testing.T) {
	z, err := New("LB.example.org", 5, []string{"ns1.example.org", "ns2.example.org."})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, qtype, rcode string
		want               []string // answer, then additional
	}{
		{"web.shop.lb.example.org.", "A", "NOERROR", []string{"web.shop.lb.example.org.\t5\tIN\tA\t192.0.2.7"}},
		{"web.shop.lb.example.org.", "AAAA", "NOERROR", []string{"web.shop.lb.example.org.\t5\tIN\tAAAA\t2001:db8::7"}},
		{"Web.Shop.LB.example.org.", "A", "NOERROR", []string{"Web.Shop.LB.example.org.\t5\tIN\tA\t192.0.2.7"}},
		{"four.shop.lb.example.org.", "A", "NOERROR", []string{"four.shop.lb.example.org.\t5\tIN\tA\t192.0.2.8", "four.shop.lb.example.org.\t5\tIN\tA\t192.0.2.9"}},
		{"four.shop.lb.example.org.", "AAAA", "NOERROR", nil},
		{"web.shop.lb.example.org.", "TXT", "NOERROR", nil},
		{"inner.shop.lb.example.org.", "A", "NXDOMAIN", nil},
		{"nobody.shop.lb.example.org.", "A", "NXDOMAIN", nil},
		{"shop.lb.example.org.", "A", "NOERROR", nil},
		{"inner.lb.example.org.", "A", "NXDOMAIN", nil},
		{"empty.lb.example.org.", "A", "NXDOMAIN", nil},
		{"nowhere.lb.example.org.", "A", "NXDOMAIN", nil},
		{"_http._tcp.web.shop.lb.example.org.", "SRV", "NOERROR", []string{
			"_http._tcp.web.shop.lb.example.org.\t5\tIN\tSRV\t0 100 80 web.shop.lb.example.org.",
			"web.shop.lb.example.org.\t5\tIN\tA\t192.0.2.7", "web.shop.lb.example.org.\t5\tIN\tAAAA\t2001:db8::7"}},
		{"_http._tcp.web.shop.lb.example.org.", "A", "NOERROR", nil},
		{"_http._udp.web.shop.lb.example.org.", "SRV", "NXDOMAIN", nil},
		{"_tcp.web.shop.lb.example.org.", "SRV", "NOERROR", nil},
		{"_udp.web.shop.lb.example.org.", "SRV", "NXDOMAIN", nil},
		{"a._http._tcp.web.shop.lb.example.org.", "SRV", "NXDOMAIN", nil},
		{"lb.example.org.", "SOA", "NOERROR", []string{soa}},
		{"lb.example.org.", "NS", "NOERROR", []string{"lb.example.org.\t5\tIN\tNS\tns1.example.org.", "lb.example.org.\t5\tIN\tNS\tns2.example.org."}},
		{"lb.example.org.", "A", "NOERROR", nil},
		{"lb.example.org.", "AXFR", "REFUSED", nil},
		{"web.shop.svc.cluster.local.", "A", "REFUSED", nil},
		{"xlb.example.org.", "A", "REFUSED", nil},
		{"example.org.", "NS", "REFUSED", nil},
		{".", "NS", "REFUSED", nil},
	} {
		a := z.Answer(snapshot(), 42, tt.name, dns.StringToType[tt.qtype])
		var got []string
		for _, rr := range append(a.Answer, a.Extra...) {
			got = append(got, rr.String())
		}
		if rcode := dns.RcodeToString[a.Rcode]; rcode != tt.rcode {
			t.Errorf("%s %s: %s, want %s", tt.name, tt.qtype, rcode, tt.rcode)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s: -want +got\n%s", tt.name, tt.qtype, diff)
		}
		negative := tt.want == nil && tt.rcode != "REFUSED"
		if negative != (len(a.Ns) == 1 && a.Ns[0].String() == soa) {
			t.Errorf("%s %s: authority %v", tt.name, tt.qtype, a.Ns)
		}
	}
}

func TestNothingIsKnownYet(t *testing.T) {
	z, err := New("lb.example.org", 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := z.Answer(nil, 1, "web.shop.lb.example.org.", dns.TypeA); a.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %+v", a)
	}
}

func TestZonesThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		zone    string
		ttl     uint32
		servers []string
		want    string
	}{
		{"", 5, nil, `zone: "" is no domain name`},
		{"a..b", 5, nil, `zone: "a..b" is no domain name`},
		{"lb.example.org", MaxTTL + 1, nil, "ttl: 3601 s is more than 3600 s"},
		{"lb.example.org", 5, []string{"ns1.example.org", "."}, `servers[1]: "." is no domain name`},
	} {
		if _, err := New(tt.zone, tt.ttl, tt.servers); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %s", tt.zone, err, tt.want)
		}
	}
}

// FuzzAnswer holds that every answer can be sent, and stays in the zone.
func FuzzAnswer(f *testing.F) {
	f.Add("web.shop.lb.example.org.", dns.TypeA)
	f.Add(`_http._tcp.we\.b.shop.lb.example.org.`, dns.TypeSRV)
	z, err := New("lb.example.org", 5, nil)
	if err != nil {
		f.Fatal(err)
	}
	s := snapshot()
	f.Fuzz(func(t *testing.T, name string, qtype uint16) {
		name = dns.Fqdn(name)
		if _, ok := dns.IsDomainName(name); !ok {
			return
		}
		var wire [256]byte
		off, err := dns.PackDomainName(name, wire[:], 0, nil, false)
		if err != nil {
			return
		}
		if name, _, err = dns.UnpackDomainName(wire[:off], 0); err != nil {
			return
		}
		a := z.Answer(s, 1, name, qtype)
		m := new(dns.Msg).SetQuestion(name, qtype)
		m.Rcode, m.Answer, m.Ns, m.Extra = a.Rcode, a.Answer, a.Ns, a.Extra
		if _, err := m.Pack(); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if a.Rcode != dns.RcodeRefused && !dns.IsSubDomain("lb.example.org.", name) {
			t.Fatalf("%q is answered with %v", name, a)
		}
	})
}
