package forward

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// circle is an upstream that asks the Forwarder itself, as a resolver does whose
// own upstream is this node.
func circle(t *testing.T, f **Forwarder, mu *sync.Mutex) handler {
	return func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		q := r.Question[0]
		mu.Lock()
		target := *f
		mu.Unlock()
		m, err := target.Resolve(t.Context(), Query{Name: q.Name, Type: q.Qtype, RecursionDesired: true})
		if err != nil {
			m = reply(t, r, dns.RcodeServerFailure)
		}
		m.Id, m.Question = r.Id, r.Question
		_ = w.WriteMsg(m)
	}
}

func TestUpstreamThatLeadsBackIsLeftOutAlone(t *testing.T) {
	var f *Forwarder
	var mu sync.Mutex
	use, serve := switched(circle(t, &f, &mu))
	looping := startStub(t, serve)
	good := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, overTCP bool) {
		if r.Question[0].Qtype == dns.TypeHINFO {
			always(t, dns.RcodeNameError, soa60)(w, r, overTCP)
			return
		}
		echo(t)(w, r, overTCP)
	})
	log := new(buffer)
	mu.Lock()
	f = newForwarder(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) }, looping, good)
	mu.Unlock()
	runForwarder(t, f)
	g := f.groups[0]
	waitFor(t, func() bool { return g.leadsBack(looping.addr) })
	waitFor(t, func() bool { f.probes.mu.Lock(); defer f.probes.mu.Unlock(); return len(f.probes.m) == 0 })
	if g.leadsBack(good.addr) {
		t.Error("the other upstream was left out, too")
	}
	before := looping.udp.Load()
	for _, name := range []string{"a.example.org.", "b.example.org."} {
		wantAnswer(t, ask(t, f, name, dns.TypeA), dns.RcodeSuccess, name+" 60 IN A 192.0.2.1")
	}
	if n := looping.udp.Load() - before; n != 0 {
		t.Errorf("the upstream that leads back was asked %d times", n)
	}
	if text := log.String(); !strings.Contains(text, "leads back") || !strings.Contains(text, looping.addr.String()) {
		t.Errorf("the log does not name it: %s", text)
	}
	if n := testutil.ToFloat64(f.metrics.looping.WithLabelValues(looping.addr.String(), ".")); n != 1 {
		t.Errorf("the metric is %v", n)
	}
	// It is put right, and found to be.
	use(always(t, dns.RcodeNameError, soa60))
	f.probe(time.Now().Add(minLoop))
	waitFor(t, func() bool { return !g.leadsBack(looping.addr) })
	if n := testutil.ToFloat64(f.metrics.looping.WithLabelValues(looping.addr.String(), ".")); n != 0 {
		t.Errorf("the metric is %v", n)
	}
}

// TestLoneUpstreamThatLeadsBack leaves nobody to ask, which is said at once.
func TestLoneUpstreamThatLeadsBack(t *testing.T) {
	var f *Forwarder
	var mu sync.Mutex
	s := startStub(t, circle(t, &f, &mu))
	mu.Lock()
	f = newForwarder(t, nil, s)
	mu.Unlock()
	runForwarder(t, f)
	waitFor(t, func() bool { return f.groups[0].leadsBack(s.addr) })
	if _, err := f.Resolve(t.Context(), www()); !errors.Is(err, ErrNoUpstream) {
		t.Errorf("error %v, want %v", err, ErrNoUpstream)
	}
}

// TestLoopOfOneDomain: the same upstream is good for other names.
func TestLoopOfOneDomain(t *testing.T) {
	var f *Forwarder
	var mu sync.Mutex
	back := circle(t, &f, &mu)
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, overTCP bool) {
		if dns.IsSubDomain("corp.example.", strings.ToLower(r.Question[0].Name)) {
			back(w, r, overTCP)
			return
		}
		echo(t)(w, r, overTCP)
	})
	mu.Lock()
	f = newForwarder(t, func(o *Options) { o.StubDomains = map[string][]string{"corp.example": {s.addr.String()}} }, s)
	mu.Unlock()
	runForwarder(t, f)
	waitFor(t, func() bool { return f.groups[0].leadsBack(s.addr) })
	if f.groups[1].leadsBack(s.addr) {
		t.Error("it is left out for all names")
	}
	wantAnswer(t, ask(t, f, www().Name, www().Type), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
}

// TestLoopThatBeginsLater is noticed when the upstream falls silent.
func TestLoopThatBeginsLater(t *testing.T) {
	var f *Forwarder
	var mu sync.Mutex
	use, serve := switched(echo(t))
	s := startStub(t, serve)
	mu.Lock()
	f = newForwarder(t, nil, s)
	mu.Unlock()
	f.attempts.timeout = 50 * time.Millisecond
	f.probe(time.Now())
	waitFor(t, func() bool { return s.udp.Load() == 1 })
	use(circle(t, &f, &mu))
	for _, name := range []string{"a.example.org.", "b.example.org."} {
		if _, err := f.Resolve(t.Context(), Query{Name: name, Type: dns.TypeA, RecursionDesired: true}); err == nil {
			t.Error("a question that goes in circles has an answer")
		}
	}
	f.probe(time.Now().Add(minSuspicion))
	waitFor(t, func() bool { return f.groups[0].leadsBack(s.addr) })
}

// TestNobodyCanPretendALoop asks for names like those that are looked for
// (CVE-2026-26018).
func TestNobodyCanPretendALoop(t *testing.T) {
	s := startStub(t, always(t, dns.RcodeNameError, soa60))
	f := newForwarder(t, nil, s)
	p := probe{f.groups[0], s.addr}
	f.groups[0].suspects(time.Now())
	a, _ := f.probes.add(p)
	b, _ := f.probes.add(p)
	if a.name == b.name || len(a.name) < 30 {
		t.Errorf("names %q and %q", a.text(), b.text())
	}
	guess := Query{Name: "x" + a.text()[1:], Type: dns.TypeHINFO, RecursionDesired: true}
	if _, err := f.Resolve(t.Context(), guess); err != nil {
		t.Errorf("a question that only looks like one of ours: %v", err)
	}
	f.probes.remove(a)
	if _, err := f.Resolve(t.Context(), Query{Name: a.text(), Type: dns.TypeHINFO, RecursionDesired: true}); err != nil {
		t.Errorf("a question that was ours once: %v", err)
	}
	if f.groups[0].leadsBack(s.addr) {
		t.Error("the upstream was left out")
	}
	if _, err := f.Resolve(t.Context(), Query{Name: strings.ToUpper(b.text()), Type: dns.TypeHINFO}); !errors.Is(err, ErrLoop) || !f.groups[0].leadsBack(s.addr) {
		t.Errorf("one of ours that came back: %v", err)
	}
	for range 3 * maxProbes {
		f.probes.add(p)
	}
	if len(f.probes.m) > maxProbes {
		t.Errorf("%d names are remembered", len(f.probes.m))
	}
}
