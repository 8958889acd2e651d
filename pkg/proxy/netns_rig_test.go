//go:build netns

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy"
	"github.com/signpost-dev/signpost/test/netlab"
)

// field is a Proxy that runs in the node of a lab, with the real programs.
type field struct {
	*netlab.Lab
	t       testing.TB
	backend string
	source  *source
	events  *warnings
	proxy   *proxy.Proxy
	stop    func()
}

// eachBackend runs f with both sets of programs. Tests fail, and do not skip,
// where one is missing.
func eachBackend(t *testing.T, f func(t *testing.T, n *field)) {
	t.Helper()
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) { f(t, newField(t, backend)) })
	}
}

// eachBackendOf is eachBackend for benchmarks.
func eachBackendOf(b *testing.B, f func(b *testing.B, n *field)) {
	b.Helper()
	for _, backend := range backends() {
		b.Run(backend, func(b *testing.B) { f(b, newField(b, backend)) })
	}
}

func backends() []string { return []string{"nft", "legacy"} }

func newField(tb testing.TB, backend string) *field {
	tb.Helper()
	lab, err := netlab.New("client", "a", "b", "c")
	if err != nil {
		tb.Fatal(err)
	}
	n := &field{Lab: lab, t: tb, backend: backend, source: &source{}, events: &warnings{}}
	tb.Cleanup(func() {
		if n.stop != nil {
			n.stop()
		}
		if tb.Failed() {
			tb.Logf("rules:\n%s", n.save())
		}
		if err := lab.Close(); err != nil {
			tb.Error(err)
		}
	})
	return n
}

// start runs a Proxy in the node until stop.
func (n *field) start() {
	n.t.Helper()
	p, err := proxy.New(proxy.Options{
		Config: proxy.Config{
			Backend: n.backend, MasqueradeBit: 14, LocalhostNodePorts: true, SyncPeriod: time.Second,
			ClusterCIDRs: netlab.PodCIDRs(),
		},
		Snapshots: n.source, LocalListeners: n.source.localListeners, Events: n.events, Log: slog.New(slog.NewTextHandler(n.t.Output(), nil)),
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Node.DoAlone(func() error { return p.Run(ctx) }) }()
	n.proxy = p
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	})
}

// publish publishes services and waits until the rules are in.
func (n *field) publish(services ...*model.Service) {
	n.t.Helper()
	n.source.publish(services...)
	n.settle()
}

func (n *field) settle() {
	n.t.Helper()
	want := n.source.Snapshot().Generation
	n.until("rules are in", func() bool { return n.proxy.Programmed() >= want })
}

func (n *field) until(what string, done func() bool) {
	n.t.Helper()
	for end := time.Now().Add(15 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("waited 15s in vain: %s", what)
		}
	}
}

func (n *field) save() string {
	v4, err := n.Node.Command(context.Background(), "", "iptables-"+n.backend+"-save")
	if err != nil {
		return err.Error()
	}
	v6, err := n.Node.Command(context.Background(), "", "ip6tables-"+n.backend+"-save")
	if err != nil {
		return err.Error()
	}
	return v4 + v6
}

// serve starts servers in pods a, b, c and the like, at port 8080 of all their addresses.
func (n *field) serve(where ...*netlab.Namespace) {
	n.t.Helper()
	for _, ns := range where {
		for _, a := range ns.Addrs {
			for _, network := range []string{"tcp", "udp"} {
				n.serveAt(ns, network, netip.AddrPortFrom(a, 8080))
			}
		}
	}
}

func (n *field) serveAt(ns *netlab.Namespace, network string, at netip.AddrPort) *netlab.Server {
	n.t.Helper()
	s, err := ns.Serve(network, at)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = s.Close() })
	return s
}

// dual returns a Service with both families and both protocols at 10.96.0.<i> and
// fd00:10:96::<i>, with the pods of these names behind it.
func (n *field) dual(i int, nodePort uint16, pods ...string) *model.Service {
	svc := &model.Service{
		Name: model.Name{Namespace: "default", Name: fmt.Sprint("s", i)},
		ClusterIPs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", i)),
		},
	}
	for _, p := range []model.Protocol{model.TCP, model.UDP} {
		svc.Ports = append(svc.Ports, model.ServicePort{Name: strings.ToLower(string(p)), Protocol: p, Port: 80, NodePort: nodePort})
	}
	for family := range 2 {
		group := model.EndpointGroup{Ports: []model.EndpointPort{{Name: "tcp", Protocol: model.TCP, Port: 8080}, {Name: "udp", Protocol: model.UDP, Port: 8080}}}
		for _, p := range pods {
			group.Endpoints = append(group.Endpoints, model.Endpoint{Addr: n.Pod(p).Addrs[family], Ready: true, Serving: true, Node: "here"})
		}
		svc.Groups = append(svc.Groups, group)
	}
	return svc
}

func vip(svc *model.Service, family int) netip.AddrPort {
	return netip.AddrPortFrom(svc.ClusterIPs[family], 80)
}

// who returns who answers, having asked as often as given.
func (n *field) who(from *netlab.Namespace, network string, to netip.AddrPort, times int) map[string]int {
	n.t.Helper()
	out := map[string]int{}
	for range times {
		got, err := from.Dial(n.t.Context(), network, to)
		if err != nil {
			n.t.Errorf("%v", err)
			continue
		}
		out[got.Name]++
	}
	return out
}

// nobody checks that a connection is refused at once. To a process of the node
// itself the kernel says already when it sends that it must not, which for UDP
// is another error.
func (n *field) nobody(from *netlab.Namespace, network string, to netip.AddrPort) {
	n.t.Helper()
	got, err := from.Dial(n.t.Context(), network, to)
	if from == n.Node && network == "udp" && errors.Is(err, syscall.EPERM) {
		return
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		n.t.Errorf("%s from %s to %s: got %+v, %v, want connection refused", network, from.Name, to, got, err)
	}
}
