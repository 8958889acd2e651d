package forward

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func runForwarder(t *testing.T, f *Forwarder) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// age makes what is cached for q older.
func age(f *Forwarder, q Query, by time.Duration) *Answer {
	k, _, _ := q.key()
	old := f.cache.find([]byte(k.name), k.qtype, k.flags)
	a := &Answer{key: old.key, wire: old.wire, ttls: old.ttls, kind: old.kind, stored: old.stored.Add(-by), life: old.life}
	f.cache.put(a)
	return a
}

func ttlOf(t *testing.T, m *dns.Msg) uint32 {
	t.Helper()
	if len(m.Answer) != 1 {
		t.Fatalf("no answer: %v", m)
	}
	return m.Answer[0].Header().Ttl
}

func www() Query {
	return Query{Name: "www.example.org.", Type: dns.TypeA, RecursionDesired: true}
}

// switched answers until it is switched to something else.
func switched(h handler) (use func(handler), serve handler) {
	var current atomic.Pointer[handler]
	current.Store(&h)
	return func(h handler) { current.Store(&h) },
		func(w dns.ResponseWriter, r *dns.Msg, overTCP bool) { (*current.Load())(w, r, overTCP) }
}

// TestExpiredAnswerIsServedWhileNobodyCanBeAsked is RFC 8767.
func TestExpiredAnswerIsServedWhileNobodyCanBeAsked(t *testing.T) {
	for name, bad := range map[string]handler{"silence": silent, "SERVFAIL": always(t, dns.RcodeServerFailure), "REFUSED": always(t, dns.RcodeRefused)} {
		t.Run(name, func(t *testing.T) {
			use, serve := switched(always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
			s := startStub(t, serve)
			f := newForwarder(t, nil, s)
			f.patience = 200 * time.Millisecond
			ask(t, f, www().Name, www().Type)
			use(bad)
			age(f, www(), time.Hour)
			if _, ok := f.Cached(www()); ok {
				t.Error("an expired answer was served although nobody was asked")
			}
			start := time.Now()
			if ttl := ttlOf(t, ask(t, f, www().Name, www().Type)); ttl != staleTTL {
				t.Errorf("TTL %d, want %d", ttl, staleTTL)
			}
			if took := time.Since(start); took > 5*f.patience {
				t.Errorf("the client waited %v", took)
			}
			k, _, _ := www().key()
			waitFor(t, func() bool {
				f.flights.mu.Lock()
				defer f.flights.mu.Unlock()
				return f.flights.m[k] == nil
			})
			asked := s.udp.Load()
			if m, ok := f.Cached(www()); !ok || ttlOf(t, m) != staleTTL {
				t.Error("it is not served at once, although it is known that nobody can be asked")
			}
			if s.udp.Load() != asked {
				t.Error("the upstream is asked again at once")
			}
			if f.cache.sizes().stale == 0 {
				t.Error("nothing counted")
			}
		})
	}
}

func TestExpiredAnswerGivesWayToANewOne(t *testing.T) {
	use, serve := switched(always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
	f := newForwarder(t, nil, startStub(t, serve))
	ask(t, f, www().Name, www().Type)
	age(f, www(), time.Hour)
	use(always(t, dns.RcodeNameError, soa60))
	wantAnswer(t, ask(t, f, www().Name, www().Type), dns.RcodeNameError)
	age(f, www(), 24*time.Hour+time.Hour)
	use(silent)
	if _, err := f.Resolve(t.Context(), www()); err == nil {
		t.Error("an answer is served that expired more than a day ago")
	}
}

// TestStaleAnswerIsRenewedBehindItsReader lets the pause after a failure end: the
// next reader gets the old answer at once, and the upstream is asked.
func TestStaleAnswerIsRenewedBehindItsReader(t *testing.T) {
	f := newForwarder(t, nil, startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")))
	runForwarder(t, f)
	ask(t, f, www().Name, www().Type)
	age(f, www(), time.Hour).retryAfter.Store(int64(time.Minute))
	if m, ok := f.Cached(www()); !ok || ttlOf(t, m) != staleTTL {
		t.Fatal("the stale answer is not served")
	}
	waitFor(t, func() bool { m, ok := f.Cached(www()); return ok && ttlOf(t, m) > staleTTL })
}

func TestPopularAnswersAreRenewedInTime(t *testing.T) {
	s := startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
	f := newForwarder(t, nil, s)
	runForwarder(t, f)
	waitFor(t, func() bool { return s.udp.Load() == 1 }) // whether it leads back
	ask(t, f, www().Name, www().Type)
	age(f, www(), 50*time.Second)
	for range 20 {
		f.Cached(www())
	}
	if n := s.udp.Load(); n != 2 {
		t.Fatalf("with a sixth of its life left the upstream was asked %d times, want 2", n)
	}
	age(f, www(), 5*time.Second)
	for range prefetchHits - 1 {
		f.Cached(www())
	}
	if n := s.udp.Load(); n != 2 {
		t.Errorf("it was renewed before it was popular")
	}
	for range 20 {
		if _, ok := f.Cached(www()); !ok {
			t.Error("a reader had to wait")
		}
	}
	waitFor(t, func() bool { m, ok := f.Cached(www()); return ok && ttlOf(t, m) > 50 })
	if n := s.udp.Load(); n != 3 || testutil.ToFloat64(f.metrics.prefetches) != 1 {
		t.Errorf("the upstream was asked %d times, want 3; %v renewals", n, testutil.ToFloat64(f.metrics.prefetches))
	}
}

// TestRenewalsAreBounded has many answers that want to be renewed at a time, and an
// upstream that does not answer: no more than so many goroutines wait for it, and
// none of the answers is asked for again at once.
func TestRenewalsAreBounded(t *testing.T) {
	s := startStub(t, silent)
	f := newForwarder(t, nil, s)
	now := time.Now()
	var names []Query
	for i := range 10 * maxRefreshes {
		q := Query{Name: fmt.Sprintf("n%d.example.org.", i), Type: dns.TypeA, RecursionDesired: true}
		a := answerFrom(t, q, now.Add(-59*time.Second), dns.RcodeSuccess, q.Name+" 60 IN A 192.0.2.1")
		a.hits.Store(prefetchHits)
		f.cache.put(a)
		names = append(names, q)
	}
	runForwarder(t, f)
	most := 0
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		for _, q := range names {
			f.Cached(q)
		}
		f.flights.mu.Lock()
		most = max(most, len(f.flights.m))
		f.flights.mu.Unlock()
	}
	if most == 0 || most > maxRefreshes {
		t.Errorf("%d renewals at a time, want up to %d", most, maxRefreshes)
	}
}

// TestFailuresAreRemembered is RFC 9520: SERVFAIL and silence alike.
func TestFailuresAreRemembered(t *testing.T) {
	for name, bad := range map[string]handler{"silence": silent, "SERVFAIL": always(t, dns.RcodeServerFailure)} {
		t.Run(name, func(t *testing.T) {
			s := startStub(t, bad)
			f := newForwarder(t, nil, s)
			_, _ = f.Resolve(t.Context(), www())
			asked := s.udp.Load()
			for range 10 {
				wantAnswer(t, ask(t, f, www().Name, www().Type), dns.RcodeServerFailure)
			}
			if n := s.udp.Load(); n != asked {
				t.Errorf("asked %d more times", n-asked)
			}
			age(f, www(), servfailFor)
			_, _ = f.Resolve(t.Context(), www())
			if n := s.udp.Load(); n == asked {
				t.Error("never asked again")
			}
		})
	}
}

// TestOneClientLeavesRoom has one client ask as much as it can.
func TestOneClientLeavesRoom(t *testing.T) {
	tk := newTickets(12)
	greedy, second, third := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	takeAll := func(client netip.Addr) (n int) {
		for tk.take(client) == nil {
			n++
		}
		return n
	}
	if a, b, c := takeAll(greedy), takeAll(second), takeAll(third); a != 6 || b != 3 || c != 2 {
		t.Errorf("one after the other they got %d, %d and %d of 12", a, b, c)
	}
	if err := tk.take(greedy); !errors.Is(err, ErrClientBusy) || !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want %v", err, ErrClientBusy)
	}
	if err := tk.take(netip.Addr{}); err != nil {
		t.Errorf("the last one is not to be had by nobody in particular: %v", err)
	}
	if err := tk.take(netip.MustParseAddr("10.0.0.4")); !errors.Is(err, ErrBusy) || errors.Is(err, ErrClientBusy) {
		t.Errorf("error %v, want %v", err, ErrBusy)
	}
	for range 6 {
		tk.put(greedy)
	}
	if len(tk.byClient) != 2 || tk.free != 6 {
		t.Errorf("%d clients are remembered, %d are free", len(tk.byClient), tk.free)
	}
}

func TestGreedyClientIsRefusedAndOthersAreNot(t *testing.T) {
	s := startStub(t, silent)
	f := newForwarder(t, nil, s)
	f.tickets = newTickets(8)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var refused atomic.Int64
	for i := range 50 {
		wg.Go(func() {
			_, err := f.ResolveAnswer(ctx, Query{Name: fmt.Sprintf("n%d.example.org.", i), Type: dns.TypeA, Client: netip.MustParseAddr("10.0.0.1")})
			if errors.Is(err, ErrClientBusy) {
				refused.Add(1)
			}
		})
	}
	waitFor(t, func() bool { return refused.Load() == 46 })
	if n := testutil.ToFloat64(f.metrics.rejects); n != 46 {
		t.Errorf("%v were counted", n)
	}
	other := make(chan error, 1)
	go func() {
		_, err := f.ResolveAnswer(ctx, Query{Name: "other.example.org.", Type: dns.TypeA, Client: netip.MustParseAddr("10.0.0.2")})
		other <- err
	}()
	waitFor(t, func() bool { f.tickets.mu.Lock(); defer f.tickets.mu.Unlock(); return f.tickets.free == 3 })
	cancel()
	wg.Wait()
	if err := <-other; !errors.Is(err, context.Canceled) {
		t.Errorf("the other client: %v", err)
	}
}

// TestSecondUpstreamIsAskedWhenTheFirstIsSlow measures in the order of events, not
// in time: the first answers only when the client has what the second said.
func TestSecondUpstreamIsAskedWhenTheFirstIsSlow(t *testing.T) {
	served := make(chan struct{})
	first := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		<-served
		_ = w.WriteMsg(reply(t, r, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
	})
	second := startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.2"))
	f := newForwarder(t, nil, first, second)
	f.attempts.timeout = attemptTimeout
	wantAnswer(t, ask(t, f, www().Name, www().Type), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.2")
	close(served)
	if first.udp.Load() != 1 || second.udp.Load() != 1 {
		t.Errorf("asked %d and %d times", first.udp.Load(), second.udp.Load())
	}
	// Its late answer shows that it is alive.
	waitFor(t, func() bool { return !f.upstreams.get(first.addr).isSilent(time.Now()) })
}

func TestRunEndsAllThatItStarted(t *testing.T) {
	f := newForwarder(t, nil, startStub(t, silent))
	f.attempts.timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	resolved := make(chan error, 1)
	go func() { _, err := f.Resolve(t.Context(), www()); resolved <- err }()
	waitFor(t, func() bool { return f.attempts.out.Load() > 0 })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := f.attempts.out.Load(); n != 0 {
		t.Errorf("%d attempts are still out", n)
	}
	if err := <-resolved; err == nil {
		t.Error("there is an answer")
	}
	if _, err := f.Resolve(t.Context(), Query{Name: "late.example.org.", Type: dns.TypeA}); !errors.Is(err, errStopped) {
		t.Errorf("error %v, want %v", err, errStopped)
	}
}
