package dns

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/signpost-dev/signpost/pkg/dns/search"
	"github.com/signpost-dev/signpost/pkg/model"
)

// fakeClients says that everybody is the same pod.
type fakeClients struct{ pod atomic.Pointer[model.Pod] }

func (f *fakeClients) PodAt(netip.Addr) *model.Pod { return f.pod.Load() }

func shopPod() *model.Pod {
	return &model.Pod{Name: model.Name{Namespace: "shop", Name: "web-0"}, UID: "u1", DNSPolicy: "ClusterFirst"}
}

// searchingServer is a server that walks the search lists of pods, and all of its
// clients are one.
func searchingServer(t *testing.T) (*Server, *upstream, *fakeClients, netip.AddrPort) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 192.0.2.53\nsearch corp.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u, clients := startUpstream(t), &fakeClients{}
	clients.pod.Store(shopPod())
	s, _, addr := startServer(t, func(o *Options) { u.option(o); o.Clients, o.ResolvConf = clients, file })
	return s, u, clients, addr
}

const firstDomain = ".shop.svc.cluster.local."

func TestSearchListIsWalkedHere(t *testing.T) {
	_, u, _, addr := searchingServer(t)
	bothWays(t, func(t *testing.T, network string) {
		for _, tt := range []struct {
			name  string
			qtype uint16
			rcode int
			want  []string
		}{
			{"www.Example.org", dns.TypeA, dns.RcodeSuccess, []string{
				"www.Example.org.shop.svc.cluster.local. 5 IN CNAME www.example.org.", "www.example.org. 60 IN A 192.0.2.1"}},
			{"www.example.org", dns.TypeAAAA, dns.RcodeSuccess, nil},
			{"missing.example.org", dns.TypeA, dns.RcodeNameError, nil},
			{"missing.example.org", dns.TypeAAAA, dns.RcodeNameError, nil},
			{"broken.example.org", dns.TypeA, dns.RcodeServerFailure, nil},
			{"www.example.org", dns.TypeTXT, dns.RcodeNameError, nil},
			{"example.org", dns.TypeA, dns.RcodeNameError, nil}, // that may be meant so: it is what an endpoint would have
			{"web.default.svc", dns.TypeA, dns.RcodeSuccess, []string{
				"web.default.svc.shop.svc.cluster.local. 5 IN CNAME web.default.svc.cluster.local.",
				"web.default.svc.cluster.local. 5 IN A 10.96.0.10"}},
			{"ext.default.svc", dns.TypeA, dns.RcodeSuccess, []string{
				"ext.default.svc.shop.svc.cluster.local. 5 IN CNAME ext.default.svc.cluster.local.",
				"ext.default.svc.cluster.local. 5 IN CNAME www.example.org.", "www.example.org. 60 IN A 192.0.2.1"}},
			{"x.web.default.svc", dns.TypeA, dns.RcodeNameError, nil},
			{"10-1-0-5.big.default", dns.TypeA, dns.RcodeSuccess, []string{
				"10-1-0-5.big.default.shop.svc.cluster.local. 5 IN CNAME 10-1-0-5.big.default.svc.cluster.local.",
				"10-1-0-5.big.default.svc.cluster.local. 5 IN A 10.1.0.5"}},
			{"10-1-0-5.big.default", dns.TypeAAAA, dns.RcodeSuccess, nil},
			{"10-1-0-5.big.default.svc", dns.TypeA, dns.RcodeSuccess, []string{
				"10-1-0-5.big.default.svc.shop.svc.cluster.local. 5 IN CNAME 10-1-0-5.big.default.svc.cluster.local.",
				"10-1-0-5.big.default.svc.cluster.local. 5 IN A 10.1.0.5"}},
		} {
			t.Run(tt.name+" "+dns.TypeToString[tt.qtype], func(t *testing.T) {
				m, _ := ask(t, network, addr, request(tt.name+firstDomain, tt.qtype, 1232))
				wantRecords(t, m, tt.rcode, tt.want...)
				if m.AuthenticatedData || m.Rcode != dns.RcodeServerFailure && !m.Authoritative {
					t.Errorf("flags: %v", m)
				}
				negative := tt.rcode == dns.RcodeNameError || tt.rcode == dns.RcodeSuccess && len(tt.want) == 0
				if soa := len(m.Ns) == 1 && m.Ns[0].Header().Name == "cluster.local."; soa != negative {
					t.Errorf("authority: %v", m.Ns)
				}
			})
		}
	})
	// A and AAAA of each step, whatever was asked, and each once.
	for name, want := range map[string]int{
		"www.example.org.": 2, "www.example.org.corp.example.": 2, "missing.example.org.": 2, "10-1-0-5.big.default.": 0,
	} {
		if got := u.asked(name); got != want {
			t.Errorf("upstream was asked %d times for %s, want %d", got, name, want)
		}
	}
}

// TestOnlyPodsAreSearchedFor also has the answer for others kept packed.
func TestOnlyPodsAreSearchedFor(t *testing.T) {
	s, u, clients, addr := searchingServer(t)
	r := func() *dns.Msg { return request("www.example.org"+firstDomain, dns.TypeA, 0) }
	clients.pod.Store(nil)
	for range 3 {
		m, _ := ask(t, "udp", addr, r())
		wantRecords(t, m, dns.RcodeNameError)
	}
	if n := u.asked("www.example.org."); n != 0 {
		t.Errorf("upstream was asked %d times", n)
	}
	clients.pod.Store(shopPod())
	for range 2 {
		m, _ := ask(t, "udp", addr, r())
		wantRecords(t, m, dns.RcodeSuccess,
			"www.example.org.shop.svc.cluster.local. 5 IN CNAME www.example.org.", "www.example.org. 60 IN A 192.0.2.1")
	}
	other := shopPod()
	other.Name.Namespace = "default"
	clients.pod.Store(other) // the address has gone to a pod that searches elsewhere
	m, _ := ask(t, "udp", addr, r())
	wantRecords(t, m, dns.RcodeNameError)
	if n := testutil.ToFloat64(s.searcher.searches.WithLabelValues("walked")); n != 2 {
		t.Errorf("%v searches were walked, want 2", n)
	}
	if n := testutil.ToFloat64(s.searcher.searches.WithLabelValues(string(search.NotFirst))); n != 1 {
		t.Errorf("%v questions were of no first step, want 1", n)
	}
}

func TestPodsOwnResolvConf(t *testing.T) {
	_, _, clients, addr := searchingServer(t)
	pod := shopPod()
	pod.Options = []model.ResolverOption{{Name: "ndots", Value: "1"}}
	clients.pod.Store(pod)
	m, _ := ask(t, "udp", addr, request("www.example.org"+firstDomain, dns.TypeA, 0))
	wantRecords(t, m, dns.RcodeNameError) // it has tried the name by itself
	pod = shopPod()
	pod.DNSPolicy, pod.Searches = "None", []string{"team.svc.cluster.local", "example.org"}
	pod.Options = []model.ResolverOption{{Name: "ndots", Value: "4"}}
	clients.pod.Store(pod)
	m, _ = ask(t, "udp", addr, request("a.b.www.team.svc.cluster.local.", dns.TypeA, 0))
	wantRecords(t, m, dns.RcodeNameError)
	m, _ = ask(t, "udp", addr, request("www.example.org.team.svc.cluster.local.", dns.TypeA, 0))
	wantRecords(t, m, dns.RcodeSuccess,
		"www.example.org.team.svc.cluster.local. 5 IN CNAME www.example.org.", "www.example.org. 60 IN A 192.0.2.1")
}

// TestWithoutTheNodesResolvConf: whoever does not know the list does not walk it.
func TestWithoutTheNodesResolvConf(t *testing.T) {
	var log syncBuffer
	u, clients := startUpstream(t), &fakeClients{}
	clients.pod.Store(shopPod())
	_, _, addr := startServer(t, func(o *Options) {
		u.option(o)
		o.Clients, o.ResolvConf, o.Log = clients, filepath.Join(t.TempDir(), "missing"), slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 2 {
		m, _ := ask(t, "udp", addr, request("www.example.org"+firstDomain, dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeNameError)
	}
	if n := strings.Count(log.String(), "cannot tell how a pod searches"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, log.String())
	}
}

// TestClientsAreForgotten: what is remembered does not grow with the addresses that
// pods have had.
func TestClientsAreForgotten(t *testing.T) {
	s, _, clients, _ := searchingServer(t)
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }
	for i := range 3 * maxSearching {
		clients.pod.Store(shopPod())
		s.searcher.searching(at(i), clients.pod.Load())
	}
	if n := len(s.searcher.known); n > maxSearching {
		t.Errorf("%d clients are remembered", n)
	}
}

// BenchmarkSearch is a pod's search for an external name that is cached: what the
// server does for one of both questions, beside the one where it only denies.
func BenchmarkSearch(b *testing.B) {
	for _, walked := range []bool{false, true} {
		b.Run(map[bool]string{false: "denied", true: "walked"}[walked], func(b *testing.B) {
			file := filepath.Join(b.TempDir(), "resolv.conf")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				b.Fatal(err)
			}
			u, clients := startUpstream(b), &fakeClients{}
			if walked {
				clients.pod.Store(shopPod())
			}
			s, _, addr := startServer(b, func(o *Options) { u.option(o); o.Clients, o.ResolvConf = clients, file })
			ask(b, "udp", addr, request("www.example.org"+firstDomain, dns.TypeA, 0))
			q := query{name: "www.example.org" + firstDomain, qtype: dns.TypeA, class: dns.ClassINET, rd: true}
			buf := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				x := &exchange{server: s, query: q, client: addr.Addr()}
				if x.begin(0); x.wait != nil {
					b.Fatal("an upstream has to be asked")
				}
				if _, err := x.pack(512, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
