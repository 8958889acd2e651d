package dns

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/signpost-dev/signpost/pkg/model"
)

// onePod is that of who asks from 127.0.0.1.
type onePod struct{ pod *model.Pod }

func (o onePod) Pod(a netip.Addr) *model.Pod {
	if a != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return nil
	}
	return o.pod
}

func searcher1(policy string) onePod {
	return onePod{&model.Pod{Name: model.Name{Namespace: "default", Name: "client"}, UID: "1", DNSPolicy: policy}}
}

// TestSearchListIsWalkedHere asks for the first step of searches, which is answered with what is at
// their end.
func TestSearchListIsWalkedHere(t *testing.T) {
	u := startUpstream(t)
	s, _, addr := startServer(t, func(o *Options) {
		u.option(o)
		o.PodsOfNode, o.NodeResolvConf = searcher1("ClusterFirst"), "search corp.example\n"
	})
	const first = ".default.svc.cluster.local."
	bothWays(t, func(t *testing.T, network string) {
		for range 2 { // once from the upstream, and once from what is known of it
			m, _ := ask(t, network, addr, request("www.example.org"+first, dns.TypeA, 0))
			wantRecords(t, m, dns.RcodeSuccess, "www.example.org"+first+" 5 IN CNAME www.example.org.", "www.example.org. 60 IN A 192.0.2.1")
			// It exists, but has no such address: the search ends there.
			m, _ = ask(t, network, addr, request("www.example.org"+first, dns.TypeAAAA, 0))
			wantRecords(t, m, dns.RcodeSuccess)
			if len(m.Ns) != 1 {
				t.Errorf("no SOA record with which nothing can be kept: %v", m)
			}
		}
		// A later step is what it is.
		m, _ := ask(t, network, addr, request("www.example.org.svc.cluster.local.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeNameError)
		m, _ = ask(t, network, addr, request("missing.example.org"+first, dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeNameError)
		// What the cluster has is not touched.
		m, _ = ask(t, network, addr, request("web"+first, dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeSuccess, "web"+first+" 5 IN A 10.96.0.10")
	})
	if n := testutil.ToFloat64(s.searching.results.WithLabelValues("walked")); n < 8 {
		t.Errorf("walked %v times", n)
	}
	if n := u.asked("www.example.org.corp.example."); n == 0 {
		t.Error("the node's search domain was left out")
	}
}

// TestNobodyElsesSearchIsWalked leaves alone pods that ask others by their resolv.conf, and who is no
// pod of this node.
func TestNobodyElsesSearchIsWalked(t *testing.T) {
	for name, pods := range map[string]Pods{"dnsPolicy Default": searcher1("Default"), "no pod": onePod{}, "off": nil} {
		t.Run(name, func(t *testing.T) {
			u := startUpstream(t)
			_, _, addr := startServer(t, func(o *Options) { u.option(o); o.PodsOfNode = pods })
			for range 2 {
				m, _ := ask(t, "udp", addr, request("www.example.org.default.svc.cluster.local.", dns.TypeA, 0))
				wantRecords(t, m, dns.RcodeNameError)
			}
		})
	}
}

// TestSearchersAreForgotten keeps no more than there are.
func TestSearchersAreForgotten(t *testing.T) {
	s, _ := newServer(t, func(o *Options) { o.PodsOfNode = &ring{} })
	for i := range 3 * maxSearchers {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		s.searching.pods.(*ring).now = addr
		if s.searching.of(addr) == nil {
			t.Fatal("a pod is not known")
		}
	}
	if n := len(s.searching.clients); n > maxSearchers {
		t.Errorf("%d clients are remembered", n)
	}
}

// ring knows one pod, another one each time.
type ring struct{ now netip.Addr }

func (r *ring) Pod(a netip.Addr) *model.Pod {
	if a != r.now {
		return nil
	}
	return &model.Pod{UID: a.String()}
}
