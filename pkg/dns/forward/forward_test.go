package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func ask(t *testing.T, f *Forwarder, name string, qtype uint16) *dns.Msg {
	t.Helper()
	m, err := f.Resolve(t.Context(), Query{Name: name, Type: qtype, RecursionDesired: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantAnswer(t *testing.T, m *dns.Msg, rcode int, texts ...string) {
	t.Helper()
	var got []string
	for _, rr := range m.Answer {
		got = append(got, strings.Join(strings.Fields(rr.String()), " "))
	}
	if m.Rcode != rcode || strings.Join(got, "\n") != strings.Join(texts, "\n") {
		t.Errorf("got %s %q, want %s %q", dns.RcodeToString[m.Rcode], got, dns.RcodeToString[rcode], texts)
	}
}

func TestAnswerComesOnceAndThenFromTheCache(t *testing.T) {
	s := startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
	f := newForwarder(t, nil, s)
	for range 3 {
		wantAnswer(t, ask(t, f, "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
	}
	if n := s.udp.Load(); n != 1 {
		t.Errorf("upstream was asked %d times, want once", n)
	}
}

func TestCaseOfTheQuestionComesBack(t *testing.T) {
	s := startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 60 IN CNAME x.example.org.", "x.example.org. 60 IN A 192.0.2.1"))
	f := newForwarder(t, nil, s)
	for _, name := range []string{"wWw.Example.ORG.", "www.example.org.", "WWW.example.org."} {
		m := ask(t, f, name, dns.TypeA)
		if got := m.Answer[0].Header().Name; got != name || m.Question[0].Name != name {
			t.Errorf("the owner is %s, the question %s, want %s", got, m.Question[0].Name, name)
		}
	}
	if n := s.udp.Load(); n != 1 {
		t.Errorf("upstream was asked %d times, want once", n)
	}
}

func TestRequestThatUpstreamsSee(t *testing.T) {
	seen := make(chan *dns.Msg, 1)
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		seen <- r
		always(t, dns.RcodeSuccess, "x.example.org. 0 IN A 192.0.2.1")(w, r, false)
	})
	f := newForwarder(t, nil, s)
	m, err := f.Resolve(t.Context(), Query{Name: "X.example.org.", Type: dns.TypeA, RecursionDesired: true, CheckingDisabled: true, DNSSEC: true})
	if err != nil {
		t.Fatal(err)
	}
	r := <-seen
	opt := r.IsEdns0()
	if !strings.EqualFold(r.Question[0].Name, "x.example.org.") || !r.RecursionDesired || !r.CheckingDisabled || opt == nil || !opt.Do() || opt.UDPSize() != udpSize {
		t.Errorf("upstream got %v", r)
	}
	if m.IsEdns0() != nil {
		t.Error("the upstream's OPT record was passed on")
	}
}

func TestFlagsAreKeptApart(t *testing.T) {
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		_ = w.WriteMsg(reply(t, r, dns.RcodeSuccess, fmt.Sprintf("x.example.org. 60 IN TXT \"%v %v %v\"", r.IsEdns0().Do(), r.CheckingDisabled, r.RecursionDesired)))
	})
	f := newForwarder(t, nil, s)
	for range 2 {
		for i := range 8 {
			q := Query{Name: "x.example.org.", Type: dns.TypeTXT, DNSSEC: i&1 > 0, CheckingDisabled: i&2 > 0, RecursionDesired: i&4 > 0}
			m, err := f.Resolve(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			wantAnswer(t, m, dns.RcodeSuccess, fmt.Sprintf("x.example.org. 60 IN TXT \"%v %v %v\"", q.DNSSEC, q.CheckingDisabled, q.RecursionDesired))
		}
	}
	if n := s.udp.Load(); n != 8 {
		t.Errorf("upstream was asked %d times, want 8", n)
	}
}

func TestForgeriesAreIgnored(t *testing.T) {
	forgeries := map[string]func(m *dns.Msg){
		"other ID":       func(m *dns.Msg) { m.Id++ },
		"other name":     func(m *dns.Msg) { m.Question[0].Name = "evil.example.org." },
		"other type":     func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
		"other class":    func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"no response":    func(m *dns.Msg) { m.Response = false },
		"no question":    func(m *dns.Msg) { m.Question = nil },
		"other opcode":   func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
		"more questions": func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
	}
	for name, forge := range forgeries {
		t.Run(name, func(t *testing.T) {
			s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
				m := reply(t, r, dns.RcodeSuccess, "www.example.org. 60 IN A 203.0.113.66")
				forge(m)
				_ = w.WriteMsg(m)
				_, _ = w.Write([]byte("not a message"))
				_ = w.WriteMsg(reply(t, r, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
			})
			f := newForwarder(t, nil, s)
			wantAnswer(t, ask(t, f, "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
			if n := testutil.ToFloat64(f.metrics.ignored); n != maxMistakes-1 {
				t.Errorf("%v datagrams were ignored, want %d", n, maxMistakes-1)
			}
		})
	}
}

// TestDatagramsFromElsewhereAreIgnored sends the right answer from the wrong
// address: to know ID and port is not enough.
func TestDatagramsFromElsewhereAreIgnored(t *testing.T) {
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		wire, _ := reply(t, r, dns.RcodeSuccess, "www.example.org. 60 IN A 203.0.113.66").Pack()
		sendFromElsewhere(t, wire, w.RemoteAddr().String())
		_ = w.WriteMsg(reply(t, r, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
	})
	f := newForwarder(t, nil, s)
	wantAnswer(t, ask(t, f, "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
}

func TestEachQuestionHasPortAndIDOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	ports, ids := map[string]bool{}, map[uint16]bool{}
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		mu.Lock()
		ports[w.RemoteAddr().String()], ids[r.Id] = true, true
		mu.Unlock()
		always(t, dns.RcodeNameError)(w, r, false)
	})
	f := newForwarder(t, nil, s)
	for i := range 64 {
		ask(t, f, fmt.Sprintf("n%d.example.org.", i), dns.TypeA)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ports) < 60 || len(ids) < 60 {
		t.Errorf("64 questions came from %d ports with %d IDs", len(ports), len(ids))
	}
}

func TestTruncatedAnswerIsFetchedOverTCP(t *testing.T) {
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, overTCP bool) {
		m := reply(t, r, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
		if !overTCP {
			m.Truncated, m.Answer = true, nil
		}
		_ = w.WriteMsg(m)
	})
	f := newForwarder(t, nil, s)
	wantAnswer(t, ask(t, f, "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
	if s.tcp.Load() != 1 {
		t.Errorf("%d requests over TCP, want one", s.tcp.Load())
	}
}

func TestAnswerLargerThanAskedForIsTaken(t *testing.T) {
	var texts []string
	for i := range 100 {
		texts = append(texts, fmt.Sprintf("www.example.org. 60 IN A 192.0.2.%d", i))
	}
	s := startStub(t, always(t, dns.RcodeSuccess, texts...))
	if m := ask(t, newForwarder(t, nil, s), "www.example.org.", dns.TypeA); len(m.Answer) != 100 || s.tcp.Load() != 0 {
		t.Errorf("%d records, %d requests over TCP", len(m.Answer), s.tcp.Load())
	}
}

func TestUpstreamWithoutEDNS(t *testing.T) {
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		if r.IsEdns0() != nil {
			m := new(dns.Msg)
			m.Id, m.Response, m.Rcode = r.Id, true, dns.RcodeFormatError
			_ = w.WriteMsg(m)
			return
		}
		_ = w.WriteMsg(reply(t, r, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
	})
	wantAnswer(t, ask(t, newForwarder(t, nil, s), "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
}

func TestOneUpstreamIsOfNoUse(t *testing.T) {
	good := always(t, dns.RcodeSuccess, "www.example.org. 0 IN A 192.0.2.1")
	for name, bad := range map[string]handler{
		"silent":   silent,
		"SERVFAIL": always(t, dns.RcodeServerFailure),
		"REFUSED":  always(t, dns.RcodeRefused),
	} {
		t.Run(name, func(t *testing.T) {
			first, second := startStub(t, bad), startStub(t, good)
			f := newForwarder(t, nil, first, second)
			wantAnswer(t, ask(t, f, "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 0 IN A 192.0.2.1")
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		second := startStub(t, good)
		f := newForwarder(t, func(o *Options) { o.Upstreams = []string{unusedAddr(t), second.addr.String()} })
		start := time.Now()
		wantAnswer(t, ask(t, f, "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 0 IN A 192.0.2.1")
		if took := time.Since(start); took >= f.attempts.timeout {
			t.Errorf("took %v: the refusal of the port was not noticed", took)
		}
	})
}

func TestSilentUpstreamIsAskedLastUntilItMayBeBack(t *testing.T) {
	use, serve := switched(silent)
	first := startStub(t, serve)
	log := new(buffer)
	second := startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 0 IN A 192.0.2.1"))
	f := newForwarder(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) }, first, second)
	down := func() bool {
		u := f.upstreams.get(first.addr)
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.failures >= failuresToDown
	}
	for !down() {
		ask(t, f, "www.example.org.", dns.TypeA)
	}
	before := first.udp.Load()
	for range 20 {
		ask(t, f, "www.example.org.", dns.TypeA)
	}
	// One question may find out whether it is back.
	if n := first.udp.Load() - before; n > 1 {
		t.Errorf("the silent upstream was asked %d times while it was known to be silent", n)
	}
	use(always(t, dns.RcodeSuccess, "www.example.org. 0 IN A 192.0.2.1"))
	waitFor(t, func() bool {
		ask(t, f, "www.example.org.", dns.TypeA)
		return !down()
	})
	if text := log.String(); strings.Count(text, "does not answer") != 1 || strings.Count(text, "answers again") != 1 {
		t.Errorf("the log: %s", text)
	}
}

func TestLoneUpstreamIsAskedAgain(t *testing.T) {
	var n atomic.Int64
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		if n.Add(1) > 1 {
			_ = w.WriteMsg(reply(t, r, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
		}
	})
	wantAnswer(t, ask(t, newForwarder(t, nil, s), "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
}

func TestNobodyAnswers(t *testing.T) {
	f := newForwarder(t, func(o *Options) { o.Upstreams = []string{unusedAddr(t), unusedAddr(t)} })
	_, err := f.Resolve(t.Context(), Query{Name: "www.example.org.", Type: dns.TypeA})
	if err == nil || !strings.Contains(err.Error(), "www.example.org. A") || strings.Count(err.Error(), "upstream 127.0.0.1:") != 2 {
		t.Errorf("error %v does not name the question and both upstreams", err)
	}
}

func TestRefusalsOfAllAreARefusal(t *testing.T) {
	f := newForwarder(t, nil, startStub(t, always(t, dns.RcodeServerFailure)), startStub(t, always(t, dns.RcodeRefused)))
	wantAnswer(t, ask(t, f, "www.example.org.", dns.TypeA), dns.RcodeRefused)
}

func TestOwnAddressIsLeftOut(t *testing.T) {
	self := startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 203.0.113.66"))
	other := startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
	isSelf := func(o *Options) { o.IsSelf = func(a netip.AddrPort) bool { return a == self.addr } }
	wantAnswer(t, ask(t, newForwarder(t, isSelf, self, other), "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
	_, err := newForwarder(t, isSelf, self).Resolve(t.Context(), Query{Name: "www.example.org.", Type: dns.TypeA})
	if !errors.Is(err, ErrNoUpstream) {
		t.Errorf("error %v, want %v", err, ErrNoUpstream)
	}
}

func TestStubDomains(t *testing.T) {
	answer := func(name string) *stubServer {
		return startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
			_ = w.WriteMsg(reply(t, r, dns.RcodeSuccess, r.Question[0].Name+" 60 IN TXT "+name))
		})
	}
	rest, corp, dev := answer("rest"), answer("corp"), answer("dev")
	f := newForwarder(t, func(o *Options) {
		o.StubDomains = map[string][]string{"Corp.example": {corp.addr.String()}, "dev.corp.example.": {dev.addr.String()}}
	}, rest)
	for name, want := range map[string]string{
		"corp.example.": "corp", "www.CORP.example.": "corp", "x.dev.corp.example.": "dev", "dev.corp.example.": "dev",
		"xdev.corp.example.": "corp", "notcorp.example.": "rest", "example.": "rest", ".": "rest",
	} {
		m := ask(t, f, name, dns.TypeTXT)
		if got := m.Answer[0].(*dns.TXT).Txt[0]; got != want {
			t.Errorf("%s was asked of %s, want %s", name, got, want)
		}
	}
}

func TestEqualQuestionsAreAskedOnce(t *testing.T) {
	release := make(chan struct{})
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		<-release
		_ = w.WriteMsg(reply(t, r, dns.RcodeSuccess, "www.example.org. 0 IN A 192.0.2.1"))
	})
	f := newForwarder(t, nil, s)
	f.attempts.timeout = 4 * time.Second
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			name := []string{"www.example.org.", "WWW.example.org."}[i%2]
			m, err := f.Resolve(t.Context(), Query{Name: name, Type: dns.TypeA})
			if err != nil {
				t.Error(err)
				return
			}
			wantAnswer(t, m, dns.RcodeSuccess, name+" 0 IN A 192.0.2.1")
		})
	}
	waitFor(t, func() bool { return f.cache.misses.Load() == 50 })
	time.Sleep(50 * time.Millisecond)
	close(release)
	wg.Wait()
	if n := s.udp.Load(); n > 3 {
		t.Errorf("upstream was asked %d times for 50 equal questions", n)
	}
}

// TestOneQuestionTriesADeadUpstream holds that, when the pause of an upstream is
// over, one question finds out whether it is back, and the others do not wait.
func TestOneQuestionTriesADeadUpstream(t *testing.T) {
	u := &upstream{}
	now := time.Unix(1000, 0)
	const attempt = 2 * time.Second
	for range failuresToDown {
		u.failed(now)
	}
	if !u.isDown(now, attempt) {
		t.Fatal("it failed and is not down")
	}
	now = now.Add(minDown)
	tries := 0
	for range 20 {
		if !u.isDown(now, attempt) {
			tries++
		}
	}
	if tries != 1 {
		t.Errorf("%d of 20 questions try it, want one", tries)
	}
	now = now.Add(attempt)
	u.failed(now)
	if !u.isDown(now, attempt) || u.downFor != 2*minDown {
		t.Errorf("after the try failed it is down for %v, want %v", u.downFor, 2*minDown)
	}
	now = now.Add(2 * minDown)
	if u.isDown(now, attempt) {
		t.Error("it is not tried again")
	}
	u.succeeded(time.Millisecond, now)
	for range 3 {
		if u.isDown(now, attempt) {
			t.Error("it answered and is down")
		}
	}
}

// TestResolveEndsWithItsContext holds that nobody waits for an upstream longer
// than somebody wants the answer: a server that stops, for example.
func TestResolveEndsWithItsContext(t *testing.T) {
	s := startStub(t, silent)
	f := newForwarder(t, nil, s)
	f.attempts.timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := f.Resolve(ctx, Query{Name: "a.example.org.", Type: dns.TypeA})
		ended <- err
	}()
	waitFor(t, func() bool { return s.udp.Load() > 0 })
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("there is an answer")
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits on")
	}
}

func TestTooManyQuestions(t *testing.T) {
	s := startStub(t, silent)
	f := newForwarder(t, nil, s)
	f.tickets = newTickets(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = f.Resolve(ctx, Query{Name: "a.example.org.", Type: dns.TypeA}) })
	waitFor(t, func() bool { return s.udp.Load() > 0 })
	start := time.Now()
	_, err := f.Resolve(ctx, Query{Name: "b.example.org.", Type: dns.TypeA})
	if !errors.Is(err, ErrBusy) || time.Since(start) > f.attempts.timeout {
		t.Errorf("error %v after %v, want %v at once", err, time.Since(start), ErrBusy)
	}
	cancel()
	wg.Wait()
}

// TestPanicDoesNotStrandThoseWhoWait makes the search itself panic, in a goroutine
// that nobody else would save the process from.
func TestPanicDoesNotStrandThoseWhoWait(t *testing.T) {
	s := startStub(t, always(t, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1"))
	f := newForwarder(t, func(o *Options) { o.IsSelf = func(netip.AddrPort) bool { panic("asked for") } }, s)
	for range 2 {
		if _, err := f.Resolve(t.Context(), Query{Name: "www.example.org.", Type: dns.TypeA}); !errors.Is(err, errAbandoned) {
			t.Errorf("error %v, want %v", err, errAbandoned)
		}
	}
	// Those who wait are told first.
	waitFor(t, func() bool { return testutil.ToFloat64(f.metrics.panics) == 2 })
	f.isSelf = func(netip.AddrPort) bool { return false }
	wantAnswer(t, ask(t, f, "www.example.org.", dns.TypeA), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 5 s in vain")
		}
	}
}
