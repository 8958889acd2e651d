package dns

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/model"
)

// fakePods are the pods of a node as tests have them.
type fakePods struct {
	mu      sync.Mutex
	current map[model.PodAddress]struct{}
	changes chan struct{}
}

func (f *fakePods) Addresses() map[model.PodAddress]struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

func (f *fakePods) Subscribe() <-chan struct{} { return f.changes }

func (f *fakePods) become(addrs ...string) {
	now := map[model.PodAddress]struct{}{}
	for _, a := range addrs {
		now[model.PodAddress{Namespace: "default", Addr: netip.MustParseAddr(a)}] = struct{}{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = now
	f.changes <- struct{}{}
}

// TestVerifiedPodsComeAndGo also with answers that are kept packed.
func TestVerifiedPodsComeAndGo(t *testing.T) {
	pods := &fakePods{changes: make(chan struct{}, 10)}
	_, snapshots, addr := startServer(t, func(o *Options) { o.Pods, o.OwnPods = records.PodsVerified, pods })
	becomes := func(name string, rcode int) {
		t.Helper()
		waitFor(t, name, func() bool {
			m, _ := ask(t, "udp", addr, request(name, dns.TypeA, 0))
			return m.Rcode == rcode
		})
		for range 3 { // from what is kept
			if m, _ := ask(t, "udp", addr, request(name, dns.TypeA, 0)); m.Rcode != rcode || (len(m.Answer) == 1) != (rcode == dns.RcodeSuccess) {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
	const one, other, endpoint = "10-9-0-1.default.pod.cluster.local.", "10-9-0-2.default.pod.cluster.local.", "10-1-0-7.default.pod.cluster.local."
	becomes(one, dns.RcodeNameError)
	becomes(endpoint, dns.RcodeSuccess)
	pods.become("10.9.0.1")
	becomes(one, dns.RcodeSuccess)
	becomes(other, dns.RcodeNameError)
	pods.become("10.9.0.2")
	becomes(one, dns.RcodeNameError)
	becomes(other, dns.RcodeSuccess)
	next := *snapshots.Snapshot()
	next.Services = model.ServiceMap{}
	snapshots.publish(&next)
	becomes(endpoint, dns.RcodeNameError)
	becomes(other, dns.RcodeSuccess)
}

func TestNobodyToVerifyPodsBy(t *testing.T) {
	_, err := New(Options{
		Snapshots: &fakeSnapshots{}, TTL: 5 * time.Second, Pods: records.PodsVerified,
		Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err == nil || !strings.HasPrefix(err.Error(), "pods: ") {
		t.Errorf("New() = %v", err)
	}
}
