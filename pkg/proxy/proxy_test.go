package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// source is a proxy.Snapshots that a test publishes to.
type source struct {
	current atomic.Pointer[model.Snapshot]
	mu      sync.Mutex
	subs    []chan struct{}
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

func (s *slow) Existing(ctx context.Context) (ruleset.Existing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Fake.Existing(ctx)
}

func (s *slow) Damage(ctx context.Context, set *ruleset.Set, hooks []ruleset.Hook) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Fake.Damage(ctx, set, hooks)
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
		Snapshots: r.source, Events: r.events, Log: slog.New(slog.NewTextHandler(r.log, nil)),
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

func TestNothingIsWrittenBeforeTheFirstSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run(t)()
		r.after(time.Hour)
		if len(r.tables.Restores) != 0 || r.proxy.Programmed() != 0 {
			t.Fatalf("%d writes, programmed %d", len(r.tables.Restores), r.proxy.Programmed())
		}
		r.source.publish(service(1, "10.0.2.1"))
		synctest.Wait()
		if diff := cmp.Diff(to("10.0.2.1"), r.goesTo(1)); diff != "" {
			t.Error(diff)
		}
		if r.proxy.Programmed() != 1 {
			t.Errorf("Programmed() = %d, want 1", r.proxy.Programmed())
		}
	})
}

// TestOneChangeWritesOneChain checks that a change of endpoints costs one chain,
// and that nothing is written when nothing has changed.
func TestOneChangeWritesOneChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var all []*model.Service
		for i := range 200 {
			all = append(all, service(i, "10.0.2.1"))
		}
		r.source.publish(all...)
		defer r.run(t)()
		writes := len(r.tables.Restores)
		r.source.publish(service(7, "10.0.2.1", "10.0.2.2"))
		synctest.Wait()
		if got := len(r.tables.Restores) - writes; got != 1 {
			t.Fatalf("%d writes for one change", got)
		}
		text := r.tables.Restores[writes]
		if got := strings.Count(text, "\n:"); got != 1 || strings.Count(text, "\n-A") != 2 {
			t.Errorf("a change of endpoints writes\n%s", text)
		}
		r.source.publish()
		r.after(10 * time.Minute)
		if got := len(r.tables.Restores) - writes; got != 1 {
			t.Errorf("%d writes without a change", got-1)
		}
		if r.proxy.Programmed() != 3 {
			t.Errorf("Programmed() = %d, want 3", r.proxy.Programmed())
		}
	})
}

// TestNoFixedWait checks that a lone change is written at once, and that many
// changes share writes and leave the processor time for others.
func TestNoFixedWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.takes = 100 * time.Millisecond
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.after(time.Minute)
		start, writes := time.Now(), len(r.tables.Restores)
		r.source.publish(service(1, "10.0.2.2"))
		for r.proxy.Programmed() != 2 {
			r.after(time.Millisecond)
		}
		if took := time.Since(start); took > 101*time.Millisecond {
			t.Errorf("a lone change took %v, a write takes 100ms", took)
		}
		r.after(time.Minute)
		start, writes = time.Now(), len(r.tables.Restores)
		for i := range 1000 {
			r.source.publish(service(1, fmt.Sprintf("10.0.3.%d", i%250)))
			r.after(3 * time.Millisecond)
		}
		n := len(r.tables.Restores) - writes
		if busy := time.Duration(n) * r.tables.takes; busy > time.Since(start)*7/10 {
			t.Errorf("%d writes in %v are more than two thirds of the time", n, time.Since(start))
		}
		r.after(time.Second)
		if r.proxy.Programmed() != r.source.Snapshot().Generation {
			t.Errorf("programmed %d of %d", r.proxy.Programmed(), r.source.Snapshot().Generation)
		}
	})
}

// TestOneBadService is the heart of the matter: a kernel that refuses what one
// Service wants, and all others that come, change and go meanwhile.
func TestOneBadService(t *testing.T) {
	for _, atStart := range []bool{false, true} {
		t.Run(fmt.Sprint("at start ", atStart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.tables.Refuse = refuse("10.66.6.6")
				var all []*model.Service
				for i := range 100 {
					all = append(all, service(i, "10.0.2.1"))
				}
				r.source.publish(all...)
				if atStart {
					r.source.publish(service(13, "10.66.6.6"))
				}
				defer r.run(t)()
				if !atStart {
					r.source.publish(service(13, "10.66.6.6"), service(14, "10.0.2.14"), gone(15), service(101, "10.0.2.101"))
				} else {
					r.source.publish(service(14, "10.0.2.14"), gone(15), service(101, "10.0.2.101"))
				}
				synctest.Wait()
				lastGood := to("10.0.2.1")
				if atStart {
					lastGood = fmt.Sprintf(untouched, 13) // there was none
				}
				for i, want := range map[int]string{13: lastGood, 14: to("10.0.2.14"), 15: fmt.Sprintf(untouched, 15), 101: to("10.0.2.101"), 16: to("10.0.2.1")} {
					if got := r.goesTo(i); got != want {
						t.Errorf("s%d: got %s, want %s", i, got, want)
					}
				}
				if diff := cmp.Diff([]string{"default/s13 " + proxy.ReasonRefused}, r.events.list); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if !strings.Contains(r.log.String(), "default/s13") {
					t.Errorf("the log does not name the Service:\n%s", r.log)
				}
				if r.proxy.Programmed() != r.source.Snapshot().Generation {
					t.Errorf("programmed %d of %d: one Service holds up all", r.proxy.Programmed(), r.source.Snapshot().Generation)
				}
				// The others go on changing while it is tried again now and then.
				for i := range 20 {
					addr := fmt.Sprintf("10.0.4.%d", i)
					r.source.publish(service(20, addr))
					r.after(10 * time.Second)
					if got := r.goesTo(20); got != to(addr) {
						t.Fatalf("s20: got %s, want %s", got, to(addr))
					}
				}
				if got := len(r.events.list); got != 1 {
					t.Errorf("%d events for one refused Service", got)
				}
				writes := len(r.tables.Restores)
				r.after(10 * time.Minute)
				if got := len(r.tables.Restores) - writes; got > 10 {
					t.Errorf("%d attempts in ten minutes", got)
				}
				// It is accepted when it changes …
				r.source.publish(service(13, "10.0.2.13"))
				synctest.Wait()
				if got := r.goesTo(13); got != to("10.0.2.13") {
					t.Errorf("s13 mended: got %s", got)
				}
				// … and when the kernel changes its mind.
				r.source.publish(service(13, "10.66.6.6"))
				synctest.Wait()
				r.tables.Refuse = nil
				r.after(2 * time.Second)
				if got := r.goesTo(13); got != to("10.66.6.6") {
					t.Errorf("s13 accepted: got %s", got)
				}
			})
		})
	}
}

// TestOneBadServiceAtAdoption checks that the search for a bad Service when
// nothing is known of the kernel does not take away rules that work.
func TestOneBadServiceAtAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var all []*model.Service
		for i := range 20 {
			all = append(all, service(i, "10.0.2.1"))
		}
		r.source.publish(all...)
		r.run(t)()
		r.source.publish(service(13, "10.66.6.6"))
		r.tables.Refuse = refuse("10.66.6.6")
		r.tables.wrote = func() {
			for i := range 20 {
				if got := r.goesTo(i); i != 13 && got != to("10.0.2.1") {
					t.Errorf("s%d loses its rules: %s", i, got)
				}
			}
		}
		r.restart(t)
		defer r.run(t)()
		if r.proxy.Programmed() != 2 || len(r.events.list) != 1 {
			t.Errorf("programmed %d, events %v", r.proxy.Programmed(), r.events.list)
		}
	})
}

// TestKernelRefusesWhatTheProgramTakes is the case in which a check is of no
// use: the program has nothing against the rules, the kernel has.
func TestKernelRefusesWhatTheProgramTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.blind = true
		r.tables.Refuse = refuse("10.66.6.6")
		r.source.publish(service(1, "10.0.2.1"), service(2, "10.66.6.6"), service(3, "10.0.2.3"))
		defer r.run(t)()
		if r.goesTo(1) != to("10.0.2.1") || r.goesTo(3) != to("10.0.2.3") || r.proxy.Programmed() != 1 {
			t.Errorf("s1: %s, s3: %s, programmed %d", r.goesTo(1), r.goesTo(3), r.proxy.Programmed())
		}
		if diff := cmp.Diff([]string{"default/s2 " + proxy.ReasonRefused}, r.events.list); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestEverythingIsRefused checks that Services are not blamed for what is wrong
// with the node.
func TestEverythingIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.Refuse = refuse("-m mark")
		r.source.publish(service(1, "10.0.2.1"), service(2, "10.0.2.2"))
		defer r.run(t)()
		r.after(time.Minute)
		if r.proxy.Programmed() != 0 || len(r.events.list) != 0 || !strings.Contains(r.log.String(), "no such match") {
			t.Errorf("programmed %d, events %v, log\n%s", r.proxy.Programmed(), r.events.list, r.log)
		}
		r.tables.Refuse = nil
		r.after(10 * time.Second)
		if r.goesTo(1) != to("10.0.2.1") || r.proxy.Programmed() != 1 {
			t.Errorf("when it is mended: %s", r.goesTo(1))
		}
	})
}

func refuse(what string) func(string) string {
	return func(line string) string {
		if strings.Contains(line, what) {
			return "no such match"
		}
		return ""
	}
}

// TestRestartAdopts checks that another run takes the rules over, removes what
// has gone meanwhile, and that there is no moment without rules.
func TestRestartAdopts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"), service(2, "10.0.2.2"))
		r.run(t)()
		if got := r.goesTo(1); got != to("10.0.2.1") {
			t.Fatalf("after the stop: %s", got)
		}
		r.source.publish(service(2, "10.0.2.3"), gone(1))
		r.restart(t)
		writes := len(r.tables.Restores)
		defer r.run(t)()
		if got := len(r.tables.Restores) - writes; got != 1 {
			t.Errorf("%d writes to take over", got)
		}
		if got := r.goesTo(2); got != to("10.0.2.3") {
			t.Errorf("s2: %s", got)
		}
		if got := r.goesTo(1); got != fmt.Sprintf(untouched, 1) {
			t.Errorf("s1: %s", got)
		}
		existing, _ := r.tables.Existing(t.Context())
		if n := strings.Count(fmt.Sprint(existing.Chains), "SIGNPOST-SVC-"); n != 1 {
			t.Errorf("%d Service chains for one Service: %v", n, existing.Chains)
		}
	})
}

// TestRepair checks that damage is mended within a sync period.
func TestRepair(t *testing.T) {
	for _, table := range ruleset.Tables()[1:] {
		t.Run(string(table), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.source.publish(service(1, "10.0.2.1"), service(2))
				defer r.run(t)()
				want := r.tables.Dump()
				r.tables.Flush(table)
				r.after(31 * time.Second)
				if diff := cmp.Diff(want, r.tables.Dump()); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestFailuresAreRetried checks that whatever a write fails with, the rules come
// when it does not fail any more.
func TestFailuresAreRetried(t *testing.T) {
	for _, err := range []error{
		iptables.ErrLocked, &iptables.BrokenOffError{Program: "iptables-restore", Err: errors.New("killed")},
		&iptables.MissingProgramError{Program: "iptables-restore"}, errors.New("something"),
	} {
		t.Run(err.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.source.publish(service(1, "10.0.2.1"))
				defer r.run(t)()
				r.tables.Fail = err
				r.source.publish(service(1, "10.0.2.2"))
				r.after(time.Minute)
				if n := len(r.tables.Restores); n > 30 {
					t.Errorf("%d attempts in a minute", n)
				}
				if r.proxy.Programmed() != 1 || len(r.events.list) != 0 {
					t.Errorf("programmed %d, events %v", r.proxy.Programmed(), r.events.list)
				}
				r.tables.Fail = nil
				r.after(10 * time.Second)
				if got := r.goesTo(1); got != to("10.0.2.2") || r.proxy.Programmed() != 2 {
					t.Errorf("programmed %d: %s", r.proxy.Programmed(), got)
				}
			})
		})
	}
}

// TestHalfWritten checks that a write that is refused after its first table does
// not leave the two tables apart: the first one is known to be written.
func TestHalfWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.tables.Refuse = refuse("s2:http without endpoints") // in table filter, which comes after nat
		r.source.publish(service(2, "10.0.2.2"))
		synctest.Wait()
		if got := r.goesTo(2); got != fmt.Sprintf(untouched, 2) {
			t.Errorf("a quarantined new Service has rules: %s", got)
		}
		r.tables.Refuse = nil
		r.after(time.Minute)
		fresh := newRig(t)
		fresh.source.publish(service(1, "10.0.2.1"), service(2, "10.0.2.2"))
		fresh.run(t)()
		if diff := cmp.Diff(fresh.tables.Dump(), r.tables.Dump()); diff != "" {
			t.Errorf("(-fresh +after refusals):\n%s", diff)
		}
	})
}

// TestBrokenOff checks that nothing is taken for granted after a write that was
// killed: here it has left the table empty.
func TestBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"), service(2, "10.0.2.2"))
		defer r.run(t)()
		r.tables.Fail = &iptables.BrokenOffError{Program: "iptables-restore", Err: errors.New("killed")}
		r.source.publish(service(1, "10.0.2.3"))
		synctest.Wait()
		r.tables.Flush(ruleset.NAT)
		r.tables.Fail = nil
		r.after(time.Second)
		if r.goesTo(1) != to("10.0.2.3") || r.goesTo(2) != to("10.0.2.2") {
			t.Errorf("s1: %s, s2: %s", r.goesTo(1), r.goesTo(2))
		}
	})
}

// TestListenersComeAndGo checks that the hooks of the raw table follow.
func TestListenersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		before := r.tables.Dump()
		r.proxy.SetLocalListeners([]netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:53")})
		synctest.Wait()
		if got := strings.Count(r.tables.Dump(), "notrack"); got != 4 {
			t.Errorf("%d rules for a listener, want 4", got)
		}
		r.proxy.SetLocalListeners(nil)
		synctest.Wait()
		if diff := cmp.Diff(before, r.tables.Dump()); diff != "" {
			t.Errorf("(-before +after):\n%s", diff)
		}
		// They come back also when taking them away did not work.
		at := []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:53")}
		r.proxy.SetLocalListeners(at)
		synctest.Wait()
		with := r.tables.Dump()
		r.tables.Fail = iptables.ErrLocked
		r.proxy.SetLocalListeners(nil)
		synctest.Wait()
		r.tables.Fail = nil
		r.proxy.SetLocalListeners(at)
		r.after(time.Second)
		if diff := cmp.Diff(with, r.tables.Dump()); diff != "" {
			t.Errorf("(-before +after a failure):\n%s", diff)
		}
	})
}

// TestProblemsAreSaid checks that a part of a Service that cannot be rendered is
// named once, and does not keep the rest from working.
func TestProblemsAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		odd := func(eps ...string) *model.Service {
			svc := service(1, eps...)
			svc.Ports = append(svc.Ports, model.ServicePort{Name: "odd", Protocol: "QUIC", Port: 443})
			return svc
		}
		r.source.publish(odd("10.0.2.1"))
		defer r.run(t)()
		r.source.publish(odd("10.0.2.2"))
		synctest.Wait()
		if diff := cmp.Diff([]string{"default/s1 " + proxy.ReasonNotProgrammed}, r.events.list); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if got := r.goesTo(1); got != to("10.0.2.2") {
			t.Errorf("the rest of it: %s", got)
		}
	})
}

func TestRulesAsText(t *testing.T) {
	var m model.ServiceMap
	svc := service(1, "10.0.2.1")
	m = m.With(map[model.Name]*model.Service{svc.Name: svc})
	var b strings.Builder
	if err := proxy.Rules(&b, &model.Snapshot{Services: m}, proxy.Config{MasqueradeBit: 14}, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# iptables-restore", "# ip6tables-restore", "10.0.2.1:8080", "-I PREROUTING -j SIGNPOST-SERVICES"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := proxy.Options{
		Config:    proxy.Config{SyncPeriod: time.Second},
		Snapshots: &source{}, Events: &warnings{}, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for name, change := range map[string]func(*proxy.Options){
		"Snapshots":     func(o *proxy.Options) { o.Snapshots = nil },
		"syncPeriod":    func(o *proxy.Options) { o.Config.SyncPeriod = 0 },
		"masqueradeBit": func(o *proxy.Options) { o.Config.MasqueradeBit = 32 },
	} {
		bad := good
		change(&bad)
		if _, err := proxy.New(bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := proxy.New(good); err != nil {
		t.Error(err)
	}
}
