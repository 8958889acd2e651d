package records

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

var (
	kubeDNS = model.Name{Namespace: "kube-system", Name: "kube-dns"}
	http    = model.ServicePort{Name: "http", Protocol: model.TCP, Port: 80}
	httpEP  = []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 80}}
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// ready makes endpoints of texts of the form "address" or "address=hostname".
func ready(texts ...string) []model.Endpoint {
	var out []model.Endpoint
	for _, s := range texts {
		addr, hostname, _ := strings.Cut(s, "=")
		out = append(out, model.Endpoint{Addr: netip.MustParseAddr(addr), Ready: true, Serving: true, Hostname: hostname})
	}
	return out
}

func unready(endpoints []model.Endpoint) []model.Endpoint {
	for i := range endpoints {
		endpoints[i].Ready = false
	}
	return endpoints
}

func clusterIP(name string, ips []netip.Addr, ports ...model.ServicePort) *model.Service {
	return &model.Service{Name: model.Name{Namespace: "testns", Name: name}, ClusterIPs: ips, Ports: ports}
}

func headless(name string, groups ...model.EndpointGroup) *model.Service {
	return &model.Service{Name: model.Name{Namespace: "testns", Name: name}, Headless: true, Groups: groups}
}

func external(name, target string) *model.Service {
	return &model.Service{Name: model.Name{Namespace: "testns", Name: name}, ExternalName: target}
}

// cluster is what most tests ask about, after that of CoreDNS's tests.
func cluster() []*model.Service {
	svc1 := clusterIP("svc1", addrs("10.0.0.1"), http)
	svc1.Groups = []model.EndpointGroup{{Ports: httpEP, Endpoints: append(ready("172.0.0.1", "172.0.0.9=named"), unready(ready("172.0.0.8"))...)}}
	kube := &model.Service{Name: kubeDNS, ClusterIPs: addrs("10.0.0.53", "fd00::53"), Ports: []model.ServicePort{
		{Name: "dns", Protocol: model.UDP, Port: 53}, {Name: "dns-tcp", Protocol: model.TCP, Port: 53}, {Name: "metrics", Protocol: model.TCP, Port: 9153}}}
	return []*model.Service{
		svc1, kube,
		clusterIP("svcempty", addrs("10.0.0.4"), http),
		clusterIP("svc6", addrs("1234:abcd::1"), http),
		clusterIP("dual", addrs("10.0.0.3", "10::3"), http),
		clusterIP("unnamed", addrs("10.0.0.5"), model.ServicePort{Protocol: model.TCP, Port: 8080}),
		clusterIP("pending", nil, http),
		headless("hdls1",
			model.EndpointGroup{Ports: httpEP, Endpoints: ready("172.0.0.2", "172.0.0.3", "172.0.0.4=dup-name", "172.0.0.5=dup-name")},
			model.EndpointGroup{Ports: httpEP, Endpoints: ready("5678:abcd::1", "5678:abcd::2")}),
		headless("zeros", model.EndpointGroup{Ports: httpEP, Endpoints: ready("fd00:5::")}),
		headless("hdlsempty"),
		headless("hdlsunready", model.EndpointGroup{Ports: httpEP, Endpoints: unready(ready("172.0.0.30"))}),
		headless("hdlsprtls", model.EndpointGroup{Endpoints: ready("172.0.0.20")}),
		headless("repacked",
			model.EndpointGroup{Ports: httpEP, Endpoints: ready("172.0.0.40", "172.0.0.41=one")},
			model.EndpointGroup{Ports: httpEP, Endpoints: append(unready(ready("172.0.0.40")), ready("172.0.0.41=one", "172.0.0.42")...)}),
		external("external", "ext.interwebs.test"),
		external("toservice", "svc1.testns.svc.cluster.local"),
		external("tonowhere", "svc0.testns.svc.cluster.local"),
		external("toexternal", "External.testns.svc.cluster.local."),
		external("self", "self.testns.svc.cluster.local"),
		external("ping", "pong.testns.svc.cluster.local"),
		external("pong", "ping.testns.svc.cluster.local"),
		external("literal", "1.2.3.4"),
		external("literal6", "fd00::1"),
		external("malformed", "a..b"),
	}
}

func snapshotOf(services []*model.Service) *model.Snapshot {
	changes := map[model.Name]*model.Service{}
	for _, s := range services {
		changes[s.Name] = s
	}
	var m model.ServiceMap
	return &model.Snapshot{Services: m.With(changes), Namespaces: map[string]struct{}{"testns": {}, "kube-system": {}, "emptyns": {}}}
}

func viewOf(tb testing.TB, services []*model.Service) *View {
	tb.Helper()
	v, err := New(Options{Domain: "cluster.local", TTL: 5, Pods: PodsInsecure, Server: kubeDNS})
	if err != nil {
		tb.Fatal(err)
	}
	return v.Next(snapshotOf(services), 1499347823)
}

// testCase is a question and its answer, records as in a zone file. SOA stands
// for the zone's SOA record in the authority section.
type testCase struct {
	name, typ string
	rcode     string
	answer    []string
	extra     []string
	chase     string
	forward   bool
}

const soaText = "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1499347823 7200 1800 86400 5"

func (tt testCase) check(t *testing.T, v *View) {
	t.Helper()
	qtype, known := dns.StringToType[tt.typ]
	if !known {
		t.Fatalf("%s is no type", tt.typ)
	}
	got := v.Answer(Question{Name: tt.name, Type: qtype}, 0)
	if got.Forward != tt.forward || got.Chase != tt.chase {
		t.Fatalf("forward %v, chase %q; want %v, %q", got.Forward, got.Chase, tt.forward, tt.chase)
	}
	if tt.forward {
		return
	}
	if tt.rcode == "" {
		tt.rcode = "NOERROR"
	}
	if dns.RcodeToString[got.Rcode] != tt.rcode {
		t.Errorf("rcode %s, want %s", dns.RcodeToString[got.Rcode], tt.rcode)
	}
	compare(t, "answer", tt.answer, got.Answer)
	compare(t, "additional", tt.extra, got.Extra)
	var authority []string
	if tt.rcode == "NXDOMAIN" || tt.rcode == "NOERROR" && len(tt.answer) == 0 {
		authority = []string{soaText}
	}
	compare(t, "authority", authority, got.Ns)
}

func compare(t *testing.T, section string, want []string, got []dns.RR) {
	t.Helper()
	var wantText, gotText []string
	for _, s := range want {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		wantText = append(wantText, rr.String())
	}
	for _, rr := range got {
		gotText = append(gotText, rr.String())
	}
	if diff := cmp.Diff(wantText, gotText); diff != "" {
		t.Errorf("%s (-want +got):\n%s", section, diff)
	}
}

func TestAnswers(t *testing.T) {
	v := viewOf(t, cluster())
	for _, group := range []struct {
		about string
		cases []testCase
	}{
		{"Service with a cluster IP", clusterIPCases},
		{"headless Service", headlessCases},
		{"one endpoint", endpointCases},
		{"Service with an external name", externalCases},
		{"the zone itself", zoneCases},
		{"names that do not exist", missingCases},
		{"pods", podCases},
		{"addresses", pointerCases},
	} {
		t.Run(group.about, func(t *testing.T) {
			for _, tt := range group.cases {
				t.Run(tt.name+" "+tt.typ, func(t *testing.T) { tt.check(t, v) })
			}
		})
	}
}

func TestQuestionsCaseIsKept(t *testing.T) {
	v := viewOf(t, cluster())
	got := v.Answer(Question{"_HTTP._tcp.SVC1.TestNS.Svc.Cluster.LOCAL.", dns.TypeSRV}, 0)
	compare(t, "answer", []string{"_HTTP._tcp.SVC1.TestNS.Svc.Cluster.LOCAL. 5 IN SRV 0 100 80 svc1.testns.svc.Cluster.LOCAL."}, got.Answer)
	compare(t, "additional", []string{"svc1.testns.svc.Cluster.LOCAL. 5 IN A 10.0.0.1"}, got.Extra)

	got = v.Answer(Question{"Nope.Cluster.LOCAL.", dns.TypeA}, 0)
	compare(t, "authority", []string{"Cluster.LOCAL. 5 IN SOA ns.dns.Cluster.LOCAL. hostmaster.Cluster.LOCAL. 1499347823 7200 1800 86400 5"}, got.Ns)
}

func TestListsRotate(t *testing.T) {
	v := viewOf(t, cluster())
	firstA, firstSRV := map[string]int{}, map[string]int{}
	for i := range uint32(8) {
		a := v.Answer(Question{"hdls1.testns.svc.cluster.local.", dns.TypeA}, i).Answer
		firstA[a[0].(*dns.A).A.String()]++
		srv := v.Answer(Question{"_http._tcp.repacked.testns.svc.cluster.local.", dns.TypeSRV}, i).Answer
		firstSRV[srv[0].(*dns.SRV).Target]++
		if len(a) != 4 || len(srv) != 3 {
			t.Fatalf("rotation %d: %d addresses, %d SRV records", i, len(a), len(srv))
		}
		if !slices.ContainsFunc(a, func(rr dns.RR) bool { return rr.(*dns.A).A.String() == "172.0.0.4" }) {
			t.Fatalf("rotation %d lost an address: %v", i, a)
		}
	}
	if len(firstA) != 4 || firstA["172.0.0.2"] != 2 {
		t.Errorf("addresses that came first: %v, want each of 4 twice", firstA)
	}
	if len(firstSRV) != 3 {
		t.Errorf("targets that came first: %v, want 3", firstSRV)
	}
}

// TestChains follows as many CNAME records as CoreDNS does, and no more.
func TestChains(t *testing.T) {
	services := cluster()
	target := "svc1"
	for i := range 13 {
		name := fmt.Sprint("chain-", i+1)
		services = append(services, external(name, target+".testns.svc.cluster.local"))
		target = name
	}
	v := viewOf(t, services)
	for i := range 13 {
		name := fmt.Sprintf("chain-%d.testns.svc.cluster.local.", i+1)
		want := i + 2 // CNAME records, and the address
		if i+1 > 11 {
			want = 0
		}
		if got := v.Answer(Question{name, dns.TypeA}, 0); len(got.Answer) != want || got.Rcode != dns.RcodeSuccess {
			t.Errorf("%s: rcode %d, %d records, want %d", name, got.Rcode, len(got.Answer), want)
		}
	}
}

func TestManyEndpointsInManyGroupsAreAnsweredOnce(t *testing.T) {
	svc := headless("big")
	var want int
	for g := range 5 {
		group := model.EndpointGroup{Ports: httpEP}
		for i := range 100 {
			// Each group overlaps the one before by half.
			addr := netip.AddrFrom4([4]byte{10, 1, 0, 0}).As4()
			n := g*50 + i
			addr[2], addr[3] = byte(n>>8), byte(n)
			group.Endpoints = append(group.Endpoints, model.Endpoint{Addr: netip.AddrFrom4(addr), Ready: true})
			want = n + 1
		}
		svc.Groups = append(svc.Groups, group)
	}
	got := viewOf(t, []*model.Service{svc}).Answer(Question{"big.testns.svc.cluster.local.", dns.TypeA}, 7).Answer
	seen := map[string]bool{}
	for _, rr := range got {
		seen[rr.String()] = true
	}
	if len(got) != want || len(seen) != want {
		t.Errorf("%d records, %d different; want %d", len(got), len(seen), want)
	}
}

func TestBeforeTheFirstSnapshot(t *testing.T) {
	v, err := New(Options{Domain: "Cluster.Local.", TTL: 30})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"svc1.testns.svc.cluster.local.", "cluster.local.", "nope.cluster.local."} {
		if got := v.Answer(Question{name, dns.TypeA}, 0); got.Rcode != dns.RcodeServerFailure || got.Forward {
			t.Errorf("%s: %+v, want SERVFAIL", name, got)
		}
	}
	for _, q := range []Question{{"example.org.", dns.TypeA}, {"1.0.0.10.in-addr.arpa.", dns.TypePTR}} {
		if got := v.Answer(q, 0); !got.Forward {
			t.Errorf("%v: %+v, want it forwarded", q, got)
		}
	}
}

func TestPodsDisabled(t *testing.T) {
	v, err := New(Options{Domain: "cluster.local", TTL: 5})
	if err != nil {
		t.Fatal(err)
	}
	v = v.Next(snapshotOf(cluster()), 1499347823)
	for _, tt := range []testCase{
		{name: "10-240-0-1.testns.pod.cluster.local.", typ: "A", rcode: "NXDOMAIN"},
		{name: "testns.pod.cluster.local.", typ: "A", rcode: "NXDOMAIN"},
		{name: "pod.cluster.local.", typ: "A"},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.check(t, v) })
	}
}

func TestOptionsThatCannotBeUsed(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "domain"},
		{Options{Domain: "."}, "domain"},
		{Options{Domain: "a..b"}, "domain"},
		{Options{Domain: "cluster.local", TTL: 3601}, "ttl"},
		{Options{Domain: "cluster.local", Pods: "Insecure"}, "pods"},
	} {
		if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New(%+v) = %v, want an error that names %q", tt.o, err, tt.want)
		}
	}
}
