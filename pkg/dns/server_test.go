package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/model"
)

// bothWays runs f over UDP and TCP.
func bothWays(t *testing.T, f func(t *testing.T, network string)) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) { f(t, network) })
	}
}

func TestNamesOfTheCluster(t *testing.T) {
	_, _, addr := startServer(t, nil)
	bothWays(t, func(t *testing.T, network string) {
		m, _ := ask(t, network, addr, request("Web.default.svc.cluster.local.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeSuccess, "Web.default.svc.cluster.local. 5 IN A 10.96.0.10")
		if !m.Authoritative || !m.RecursionDesired || !m.RecursionAvailable || m.Truncated || m.IsEdns0() != nil {
			t.Errorf("flags: %v", m)
		}
		m, _ = ask(t, network, addr, request("_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV, 1232))
		wantRecords(t, m, dns.RcodeSuccess, "_http._tcp.web.default.svc.cluster.local. 5 IN SRV 0 50 80 web.default.svc.cluster.local.")
		if opt := m.IsEdns0(); len(m.Extra) != 3 || opt == nil || opt.UDPSize() != maxUDPSize || opt.Version() != 0 {
			t.Errorf("additional: %v", m.Extra)
		}
		m, _ = ask(t, network, addr, request("web.default.svc.cluster.local.", dns.TypeTXT, 0))
		wantRecords(t, m, dns.RcodeSuccess)
		m, _ = ask(t, network, addr, request("none.default.svc.cluster.local.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeNameError)
		if soa, ok := m.Ns[0].(*dns.SOA); !ok || soa.Minttl != 5 || soa.Serial == 0 {
			t.Errorf("authority: %v", m.Ns)
		}
	})
}

func TestOtherNamesAreForwarded(t *testing.T) {
	u := startUpstream(t)
	s, _, addr := startServer(t, u.option)
	bothWays(t, func(t *testing.T, network string) {
		m, _ := ask(t, network, addr, request("www.example.org.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
		if m.Authoritative || !m.RecursionAvailable || m.AuthenticatedData {
			t.Errorf("flags: %v", m)
		}
		m, _ = ask(t, network, addr, request("missing.example.org.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeNameError)
		m, _ = ask(t, network, addr, request("broken.example.org.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeServerFailure)
		m, _ = ask(t, network, addr, request("1.0.0.10.in-addr.arpa.", dns.TypePTR, 0))
		wantRecords(t, m, dns.RcodeSuccess, "1.0.0.10.in-addr.arpa. 60 IN PTR host.example.org.")
		m, _ = ask(t, network, addr, request("10.0.96.10.in-addr.arpa.", dns.TypePTR, 0))
		wantRecords(t, m, dns.RcodeSuccess, "10.0.96.10.in-addr.arpa. 5 IN PTR web.default.svc.cluster.local.")
	})
	if n := u.asked("www.example.org."); n != 1 {
		t.Errorf("upstream was asked %d times for what it had answered", n)
	}
	if n := counted(t, s.metrics.responses, "NOERROR", sourceCache); n != 2 {
		t.Errorf("%v answers came from the cache, want 2", n)
	}
}

func TestWhoAsksForItSeesThatAnAnswerWasValidated(t *testing.T) {
	_, _, addr := startServer(t, startUpstream(t).option)
	r := request("www.example.org.", dns.TypeA, 0)
	r.AuthenticatedData = true
	if m, _ := ask(t, "udp", addr, r); !m.AuthenticatedData {
		t.Errorf("flags: %v", m)
	}
	r = request("web.default.svc.cluster.local.", dns.TypeA, 0)
	r.AuthenticatedData = true
	if m, _ := ask(t, "udp", addr, r); m.AuthenticatedData {
		t.Errorf("what nobody signed is called validated: %v", m)
	}
}

func TestExternalNamesAreChased(t *testing.T) {
	_, _, addr := startServer(t, startUpstream(t).option)
	bothWays(t, func(t *testing.T, network string) {
		m, _ := ask(t, network, addr, request("ext.default.svc.cluster.local.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeSuccess, "ext.default.svc.cluster.local. 5 IN CNAME www.example.org.", "www.example.org. 60 IN A 192.0.2.1")
		m, _ = ask(t, network, addr, request("ext.default.svc.cluster.local.", dns.TypeAAAA, 0))
		wantRecords(t, m, dns.RcodeSuccess, "ext.default.svc.cluster.local. 5 IN CNAME www.example.org.")
		m, _ = ask(t, network, addr, request("extmissing.default.svc.cluster.local.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeNameError, "extmissing.default.svc.cluster.local. 5 IN CNAME missing.example.org.")
	})
}

func TestWithoutUpstream(t *testing.T) {
	_, _, addr := startServer(t, nil)
	for _, name := range []string{"www.example.org.", "ext.default.svc.cluster.local."} {
		m, _ := ask(t, "udp", addr, request(name, dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeServerFailure)
	}
}

func TestBeforeTheFirstSnapshot(t *testing.T) {
	u := startUpstream(t)
	snapshots := &fakeSnapshots{}
	s, _, addr := startServer(t, func(o *Options) { u.option(o); o.Snapshots = snapshots })
	m, _ := ask(t, "udp", addr, request("web.default.svc.cluster.local.", dns.TypeA, 0))
	wantRecords(t, m, dns.RcodeServerFailure)
	m, _ = ask(t, "udp", addr, request("www.example.org.", dns.TypeA, 0))
	wantRecords(t, m, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
	if err := s.Ready(); !errors.Is(err, errNoSnapshot) {
		t.Errorf("Ready() = %v", err)
	}
	snapshots.publish(cluster())
	waitFor(t, "the Service to be answered", func() bool {
		m, _ := ask(t, "udp", addr, request("web.default.svc.cluster.local.", dns.TypeA, 0))
		return m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1
	})
}

func TestChangesAreAnsweredAtOnce(t *testing.T) {
	_, snapshots, addr := startServer(t, nil)
	name := model.Name{Namespace: "default", Name: "web"}
	for i := range 50 {
		svc := *snapshots.Snapshot().Services.Get(name)
		svc.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 97, 0, byte(i)})}
		next := *snapshots.Snapshot()
		next.Services = next.Services.With(map[model.Name]*model.Service{name: &svc})
		start := time.Now()
		snapshots.publish(&next)
		waitFor(t, "the new address", func() bool {
			m, _ := ask(t, "udp", addr, request("web.default.svc.cluster.local.", dns.TypeA, 0))
			return m.Answer[0].(*dns.A).A.String() == svc.ClusterIPs[0].String()
		})
		if took := time.Since(start); took > time.Second {
			t.Fatalf("took %v", took)
		}
	}
}

func TestLargeAnswersAreCutFairly(t *testing.T) {
	_, _, addr := startServer(t, startUpstream(t).option)
	seen := map[string]bool{}
	for _, size := range []uint16{0, 100, 512, 900, 1232, 4096, 65535} {
		limit := int(min(max(size, 512), 1232))
		for range 60 {
			m, n := ask(t, "udp", addr, request("big.default.svc.cluster.local.", dns.TypeA, size))
			if n > limit || n < limit-40 || !m.Truncated {
				t.Errorf("size %d: %d octets, truncated %v", size, n, m.Truncated)
			}
			for _, rr := range m.Answer {
				seen[rr.String()] = true
			}
		}
	}
	if len(seen) < 200 {
		t.Errorf("only %d of 200 addresses were seen in 420 answers", len(seen))
	}
	for name, want := range map[string]int{"big.default.svc.cluster.local.": 200, "many.example.org.": 200} {
		if m, n := ask(t, "udp", addr, request(name, dns.TypeA, 1232)); n > 1232 || !m.Truncated {
			t.Errorf("%s over UDP: %d octets, truncated %v", name, n, m.Truncated)
		}
		if m, _ := ask(t, "tcp", addr, request(name, dns.TypeA, 0)); len(m.Answer) != want || m.Truncated {
			t.Errorf("%s over TCP: %d records, truncated %v", name, len(m.Answer), m.Truncated)
		}
	}
	m, n := ask(t, "udp", addr, request("_http._tcp.big.default.svc.cluster.local.", dns.TypeSRV, 1232))
	if n > 1232 || !m.Truncated || len(m.Answer) == 0 || len(m.Extra) != 1 {
		t.Errorf("SRV over UDP: %d octets, %d records, %d additional, truncated %v", n, len(m.Answer), len(m.Extra), m.Truncated)
	}
}

// TestEachConnectionBeginsElsewhere holds that the clients of a Service whose
// answer needs TCP do not all begin with the same endpoint.
func TestEachConnectionBeginsElsewhere(t *testing.T) {
	_, _, addr := startServer(t, startUpstream(t).option)
	first := map[string]bool{}
	for range 20 {
		m, _ := ask(t, "tcp", addr, request("big.default.svc.cluster.local.", dns.TypeA, 0))
		first[m.Answer[0].String()] = true
	}
	if len(first) < 5 {
		t.Errorf("the first of 200 records of 20 answers, each on a connection of its own: %v", first)
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	s, _, addr := startServer(t, nil)
	book := s.book.Load()
	bothWays(t, func(t *testing.T, network string) {
		before := testutil.ToFloat64(s.metrics.panics)
		s.book.Store(nil) // which the next request stumbles over
		c, err := dns.DialTimeout(network, addr.String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.WriteMsg(request("web.default.svc.cluster.local.", dns.TypeA, 0)); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the panic", func() bool { return testutil.ToFloat64(s.metrics.panics) == before+1 })
		s.book.Store(book)
		m, _ := ask(t, network, addr, request("web.default.svc.cluster.local.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeSuccess, "web.default.svc.cluster.local. 5 IN A 10.96.0.10")
	})
}

func TestTooManyRequestsThatWait(t *testing.T) {
	u := startUpstream(t)
	s, _ := newServer(t, u.option)
	s.limits.waiting = 4 // of which one client can have half
	run(t, s)
	release := u.holdAnswers(t)
	waitFor(t, "the server to listen", func() bool { return len(s.Serving()) > 0 })
	addr := s.Serving()[0]
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			m, _ := ask(t, "udp", addr, request(fmt.Sprintf("n%d.example.org.", i), dns.TypeA, 0))
			wantRecords(t, m, dns.RcodeNameError)
		})
	}
	waitFor(t, "two requests to wait", func() bool { return u.asked("n0.example.org.") > 0 && u.asked("n1.example.org.") > 0 })
	bothWays(t, func(t *testing.T, network string) {
		m, _ := ask(t, network, addr, request("n2.example.org.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeRefused)
		m, _ = ask(t, network, addr, request("web.default.svc.cluster.local.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeSuccess, "web.default.svc.cluster.local. 5 IN A 10.96.0.10")
	})
	release()
	wg.Wait()
}

func TestServerIsNotItsOwnUpstream(t *testing.T) {
	s, _ := newServer(t, func(o *Options) {
		addr := freeAddr(t)
		o.Listen, o.Upstreams = []netip.AddrPort{addr}, []string{addr.String()}
	})
	run(t, s)
	waitFor(t, "the server to listen", func() bool { return len(s.Serving()) > 0 })
	m, _ := ask(t, "udp", s.Serving()[0], request("www.example.org.", dns.TypeA, 0))
	wantRecords(t, m, dns.RcodeServerFailure)
	if n := counted(t, s.metrics.requests, "udp", "A"); n != 1 {
		t.Errorf("%v requests for the name came, want only the one that was sent", n)
	}
}

func TestOptionsThatCannotBeUsed(t *testing.T) {
	for _, tt := range []struct {
		edit func(*Options)
		want string
	}{
		{func(o *Options) { o.Domain = "a..b" }, "domain"},
		{func(o *Options) { o.TTL = 1500 * time.Millisecond }, "ttl"},
		{func(o *Options) { o.TTL = 2 * time.Hour }, "ttl"},
		{func(o *Options) { o.TTL = -time.Second }, "ttl"},
		{func(o *Options) { o.Pods = "verified" }, "pods"},
		{func(o *Options) { o.Pods = records.PodMode("x") }, "pods"},
		{func(o *Options) { o.Upstreams = []string{"bogus"} }, "upstreams"},
		{func(o *Options) { o.StubDomains = map[string][]string{"corp": {"bogus"}} }, "stubDomains"},
	} {
		o := Options{Snapshots: &fakeSnapshots{}, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
		tt.edit(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v does not name %q", err, tt.want)
		}
	}
}
