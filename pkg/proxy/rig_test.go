package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// source is a proxy.Snapshots that a test publishes to.
type source struct {
	current   atomic.Pointer[model.Snapshot]
	listeners atomic.Pointer[[]netip.AddrPort]
	mu        sync.Mutex
	subs      []chan struct{}
}

// listenAt publishes a snapshot for which other addresses are listened at.
func (s *source) listenAt(at ...netip.AddrPort) {
	s.listeners.Store(&at)
	s.publish()
}

func (s *source) localListeners(*model.Snapshot) []netip.AddrPort {
	if at := s.listeners.Load(); at != nil {
		return *at
	}
	return nil
}

func (s *source) Snapshot() *model.Snapshot { return s.current.Load() }

func (s *source) Subscribe() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{}, 1)
	s.subs = append(s.subs, c)
	return c
}

// publish publishes the next snapshot: that of before with changes.
func (s *source) publish(services ...*model.Service) {
	next := &model.Snapshot{Node: model.Node{Name: "here", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}}}
	if was := s.current.Load(); was != nil {
		*next = *was
	}
	changes := map[model.Name]*model.Service{}
	for _, svc := range services {
		changes[svc.Name] = svc
		if len(svc.Ports) == 0 {
			changes[svc.Name] = nil
		}
	}
	next.Generation++
	next.Services = next.Services.With(changes)
	s.current.Store(next)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// service returns a Service default/s<i> at 10.96.0.<i>.
func service(i int, endpoints ...string) *model.Service {
	svc := &model.Service{
		Name:       model.Name{Namespace: "default", Name: fmt.Sprint("s", i)},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})},
		Ports:      []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
	}
	group := model.EndpointGroup{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}}}
	for _, e := range endpoints {
		group.Endpoints = append(group.Endpoints, model.Endpoint{Addr: netip.MustParseAddr(e), Ready: true, Serving: true, Node: "there"})
	}
	svc.Groups = []model.EndpointGroup{group}
	return svc
}

// gone says to publish that service i does not exist.
func gone(i int) *model.Service { return &model.Service{Name: service(i).Name} }

// warnings are the events that a test has seen.
type warnings struct {
	mu   sync.Mutex
	list []string
}

func (w *warnings) ServiceWarning(svc *model.Service, reason, _ string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, svc.Name.String()+" "+reason)
}

// slow is a fake whose writes take time. The proxy and the test look at it in
// turns, when the other one sleeps; the lock only tells the race detector so.
type slow struct {
	*iptablestest.Fake
	mu    sync.Mutex
	takes time.Duration
	// wrote, if set, is called after each write.
	wrote func()
	// blind finds nothing to refuse in a check.
	blind bool
	// hookless is what the insertion of hooks fails with, unseeing what Untouched does.
	hookless, unseeing error
	// reads is how long it takes to read the rules, read how often they were read.
	reads time.Duration
	read  int
	// lists, if set, is how the program lists what there is.
	lists func(*ruleset.Set) *ruleset.Set
}

func (s *slow) EnsureHooks(ctx context.Context, hooks []ruleset.Hook) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hookless != nil {
		return 0, s.hookless
	}
	return s.Fake.EnsureHooks(ctx, hooks)
}

func (s *slow) Check(ctx context.Context, text string) error {
	if s.blind {
		return nil
	}
	return s.Fake.Check(ctx, text)
}

func (s *slow) meet() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

func (s *slow) Restore(ctx context.Context, text string) error {
	time.Sleep(s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.Fake.Restore(ctx, text)
	if s.wrote != nil {
		s.wrote()
	}
	return err
}

func (s *slow) Existing(ctx context.Context, want *ruleset.Set) (*ruleset.Existing, error) {
	time.Sleep(s.reads)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read++
	existing, err := s.Fake.Existing(ctx, want)
	if err == nil && s.lists != nil {
		existing.Set = *s.lists(&existing.Set)
	}
	return existing, err
}

func (s *slow) Untouched(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unseeing != nil {
		return false, s.unseeing
	}
	return s.Fake.Untouched(ctx)
}

// rig is a Proxy over a fake.
type rig struct {
	source  *source
	tables  *slow
	proxy   *proxy.Proxy
	events  *warnings
	metrics *prometheus.Registry
	log     *bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		source: &source{}, tables: &slow{Fake: iptablestest.New(ruleset.IPv4)}, events: &warnings{},
		metrics: prometheus.NewRegistry(), log: &bytes.Buffer{},
	}
	r.restart(t)
	return r
}

// restart makes another Proxy over the same tables, as after a kill.
func (r *rig) restart(t *testing.T) {
	t.Helper()
	r.metrics = prometheus.NewRegistry()
	p, err := proxy.New(proxy.Options{
		Config:    proxy.Config{Backend: "auto", MasqueradeBit: 14, SyncPeriod: 30 * time.Second},
		Snapshots: r.source, LocalListeners: r.source.localListeners, Events: r.events, Log: slog.New(slog.NewTextHandler(r.log, nil)),
		Registerer: r.metrics, Tables: []proxy.Tables{r.tables},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.proxy = p
}

// run runs the proxy until the returned function is called.
func (r *rig) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.proxy.Run(ctx) }()
	synctest.Wait()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// goesTo returns where a packet from a pod to service i goes.
func (r *rig) goesTo(i int) string {
	return r.tables.Trace(iptablestest.Packet{
		From: iptablestest.Pod, Proto: "tcp", Src: netip.MustParseAddrPort("10.0.1.9:4000"),
		Dst: netip.AddrPortFrom(service(i).ClusterIPs[0], 80),
	}).String()
}

// after lets time pass, and all that is due happen.
func (r *rig) after(d time.Duration) {
	r.tables.meet()
	time.Sleep(d)
	synctest.Wait()
	r.tables.meet()
}

func to(addr string) string { return "1.00 forward " + addr + ":8080\n" }

const untouched = "1.00 forward 10.96.0.%d:80\n"
