package prober

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
)

// bench is a Prober whose checks do nothing but be counted, in a bubble of synctest.
type bench struct {
	*testing.T
	prober *Prober

	mu      sync.Mutex
	checks  map[netip.AddrPort]int
	down    map[netip.AddrPort]bool
	unknown bool
	takes   time.Duration
	now     int
	most    int
}

func inBubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, checks: map[netip.AddrPort]int{}, down: map[netip.AddrPort]bool{}}
		p, err := New(Options{Shared: &informertest.FakeInformers{}, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		b.prober, p.do = p, b.do
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		test(b)
		cancel()
		wg.Wait()
	})
}

func (b *bench) do(ctx context.Context, t *check.Target) verdict.Finding {
	b.mu.Lock()
	b.checks[t.At]++
	b.now++
	b.most = max(b.most, b.now)
	takes := b.takes
	b.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now--
	switch {
	case b.unknown:
		return verdict.Finding{}
	case b.down[t.At]:
		return down(verdict.Refused, 0)
	}
	return up()
}

// count returns how many checks of an address there have been since last asked.
func (b *bench) count(at string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.checks[netip.MustParseAddrPort(at)]
	delete(b.checks, netip.MustParseAddrPort(at))
	return n
}

func (b *bench) mostAtOnce() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most
}

func (b *bench) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func service(annotations ...string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "uid", Annotations: map[string]string{"signpost.dev/health-check": "tcp"}}}
	for i := 0; i < len(annotations); i += 2 {
		svc.Annotations["signpost.dev/health-check-"+annotations[i]] = annotations[i+1]
	}
	return svc
}

func slice(name string, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{
			discoveryv1.LabelServiceName: "db", discoveryv1.LabelManagedBy: "external-backends.signpost.dev"}},
		Ports: []discoveryv1.EndpointPort{{Port: new(int32(80))}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

// key returns that of an address of the Service.
func key(svc *corev1.Service, at string) check.Key {
	request, _ := check.Read(svc)
	return request.Check.KeyOf(svc.UID, netip.MustParseAddrPort(at))
}

func (b *bench) want(k check.Key, want verdict.State) {
	b.Helper()
	if got := b.prober.Finding(k); got.State != want {
		b.Errorf("found %+v, want %v", got, want)
	}
}

func TestChecksWhileAsked(t *testing.T) {
	inBubble(t, func(b *bench) {
		svc := service()
		b.prober.serviceChanged(nil, svc, true)
		b.prober.sliceChanged(nil, slice("a", "192.0.2.1", "192.0.2.2"), true)
		k := key(svc, "192.0.2.1:80")
		time.Sleep(time.Minute)
		if n := b.count("192.0.2.1:80"); n != 0 {
			t.Errorf("%d checks before anybody asked", n)
		}
		b.want(k, verdict.Unknown)
		time.Sleep(time.Second)
		b.want(k, verdict.Up)
		b.set(func() { b.down[netip.MustParseAddrPort("192.0.2.1:80")] = true })
		time.Sleep(3500 * time.Millisecond) // less than three intervals
		b.want(k, verdict.Up)
		time.Sleep(3500 * time.Millisecond)
		b.want(k, verdict.Down)
		b.count("192.0.2.1:80")
		for range 20 {
			time.Sleep(time.Second)
			b.prober.Finding(k)
		}
		if n := b.count("192.0.2.1:80"); n < 9 || n > 11 {
			t.Errorf("%d checks in 20 s, one every 2 s", n)
		}
		if n := b.count("192.0.2.2:80"); n != 0 {
			t.Errorf("%d checks of another one", n)
		}
		time.Sleep(idle + 3*time.Second)
		b.count("192.0.2.1:80")
		time.Sleep(time.Minute)
		if n := b.count("192.0.2.1:80"); n != 0 {
			t.Errorf("%d checks a minute after anybody asked", n)
		}
		b.want(k, verdict.Unknown)
		time.Sleep(7 * time.Second)
		b.want(k, verdict.Down)
	})
}

// TestWhatIsNotDeclared is never checked, whoever asks.
func TestWhatIsNotDeclared(t *testing.T) {
	inBubble(t, func(b *bench) {
		svc := service()
		others := slice("theirs", "192.0.2.1")
		others.Labels[discoveryv1.LabelManagedBy] = "somebody"
		plain := service()
		delete(plain.Annotations, "signpost.dev/health-check")
		ask := func() int {
			b.prober.Finding(key(svc, "192.0.2.1:80"))
			time.Sleep(10 * time.Second)
			return b.count("192.0.2.1:80")
		}
		for _, step := range []struct {
			what string
			do   func()
			want bool
		}{
			{"nothing", func() {}, false},
			{"a slice without Service", func() { b.prober.sliceChanged(nil, slice("a", "192.0.2.1"), true) }, false},
			{"both", func() { b.prober.serviceChanged(nil, svc, true) }, true},
			{"somebody else's slice", func() { b.prober.sliceChanged(slice("a", "192.0.2.1"), others, false) }, false},
			{"ours again", func() { b.prober.sliceChanged(others, slice("a", "192.0.2.1"), false) }, true},
			{"no annotation", func() { b.prober.serviceChanged(svc, plain, false) }, false},
			{"again", func() { b.prober.serviceChanged(plain, svc, false) }, true},
			{"another check", func() { b.prober.serviceChanged(svc, service("failures", "5"), false) }, false},
			{"the first one", func() { b.prober.serviceChanged(service("failures", "5"), svc, false) }, true},
			{"another address", func() { b.prober.sliceChanged(slice("a", "192.0.2.1"), slice("a", "192.0.2.2"), false) }, false},
			{"that one, too", func() { b.prober.sliceChanged(nil, slice("b", "192.0.2.1"), false) }, true},
			{"no slice", func() { b.prober.sliceDeleted(slice("b", "192.0.2.1")) }, false},
			{"no Service", func() {
				b.prober.sliceChanged(nil, slice("b", "192.0.2.1"), false)
				b.prober.serviceDeleted(svc)
			}, false},
		} {
			step.do()
			if n := ask(); n > 0 != step.want {
				t.Errorf("%s: %d checks", step.what, n)
			}
		}
		b.prober.sliceDeleted(slice("a"))
		b.prober.sliceDeleted(slice("b"))
		if len(b.prober.declared)+len(b.prober.targets) > 0 {
			t.Errorf("left: %v, %v", b.prober.declared, b.prober.targets)
		}
	})
}

// TestHangingServiceLeavesOthers: 1,000 backends that hang take no more than their
// Service's share, and those of another Service are checked as they should be.
func TestHangingServiceLeavesOthers(t *testing.T) {
	inBubble(t, func(b *bench) {
		svc, other := service("timeout", "30s"), service()
		other.Name, other.UID = "other", "other"
		theirs := slice("b", "198.51.100.1")
		theirs.Labels[discoveryv1.LabelServiceName] = "other"
		b.prober.serviceChanged(nil, svc, true)
		b.prober.serviceChanged(nil, other, true)
		var all []string
		for i := range 1000 {
			all = append(all, fmt.Sprintf("192.0.%d.%d", i/250, 1+i%250))
		}
		b.prober.sliceChanged(nil, slice("a", all...), true)
		b.prober.sliceChanged(nil, theirs, true)
		b.takes = 30 * time.Second
		for _, a := range all {
			b.prober.Finding(key(svc, a+":80"))
		}
		time.Sleep(time.Second)
		b.set(func() { b.takes = time.Millisecond })
		for range 20 {
			b.prober.Finding(key(other, "198.51.100.1:80"))
			time.Sleep(time.Second)
		}
		if n := b.count("198.51.100.1:80"); n < 9 {
			t.Errorf("%d checks in 20 s, one every 2 s", n)
		}
		if most := b.mostAtOnce(); most > forOne+1 {
			t.Errorf("%d checks at once", most)
		}
	})
}

// TestManyAtOnce: 1,000 backends that take half a second each, and no more than so many
// at a time.
func TestManyAtOnce(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.takes = 500 * time.Millisecond
		svc := service("interval", "30s")
		b.prober.serviceChanged(nil, svc, true)
		var all []string
		for i := range 1000 {
			all = append(all, fmt.Sprintf("192.0.%d.%d", i/250, 1+i%250))
		}
		b.prober.sliceChanged(nil, slice("a", all...), true)
		for _, a := range all {
			b.prober.Finding(key(svc, a+":80"))
		}
		time.Sleep(45 * time.Second)
		for _, a := range all {
			b.want(key(svc, a+":80"), verdict.Up)
		}
		if most := b.mostAtOnce(); most != forOne {
			t.Errorf("%d checks at once, %d are allowed", most, forOne)
		}
	})
}

// TestOldFindingsAreNone: a node that cannot check any more does not go on to say
// what it found before.
func TestOldFindingsAreNone(t *testing.T) {
	inBubble(t, func(b *bench) {
		svc := service()
		b.prober.serviceChanged(nil, svc, true)
		b.prober.sliceChanged(nil, slice("a", "192.0.2.1"), true)
		k := key(svc, "192.0.2.1:80")
		b.prober.Finding(k)
		time.Sleep(time.Second)
		b.want(k, verdict.Up)
		b.set(func() { b.unknown = true })
		time.Sleep(5 * time.Second)
		b.want(k, verdict.Up)
		time.Sleep(10 * time.Second)
		b.want(k, verdict.Unknown)
	})
}

// TestServiceMadeAnew: what was found for the former one is not for this one.
func TestServiceMadeAnew(t *testing.T) {
	inBubble(t, func(b *bench) {
		svc := service()
		b.prober.serviceChanged(nil, svc, true)
		b.prober.sliceChanged(nil, slice("a", "192.0.2.1"), true)
		b.prober.Finding(key(svc, "192.0.2.1:80"))
		time.Sleep(time.Second)
		again := service()
		again.UID = types.UID("another")
		b.prober.serviceDeleted(svc)
		b.prober.serviceChanged(nil, again, false)
		b.want(key(svc, "192.0.2.1:80"), verdict.Unknown)
		b.want(key(again, "192.0.2.1:80"), verdict.Unknown)
		time.Sleep(time.Second)
		b.want(key(again, "192.0.2.1:80"), verdict.Up)
	})
}
