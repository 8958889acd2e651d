package forward

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// lossy answers all but the given share of requests that come over UDP.
func lossy(tb testing.TB, share float64) handler {
	good := echo(tb)
	return func(w dns.ResponseWriter, r *dns.Msg, overTCP bool) {
		if overTCP || rand.Float64() >= share {
			good(w, r, overTCP)
		}
	}
}

// echo answers each question about an address.
func echo(tb testing.TB) handler {
	return func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
		_ = w.WriteMsg(reply(tb, r, dns.RcodeSuccess, r.Question[0].Name+" 60 IN A 192.0.2.1"))
	}
}

// troubles are what upstreams suffer from, in the order in which they are asked.
func troubles() []trouble {
	return []trouble{
		{"no loss, 1 upstream", []float64{0}, 0},
		{"5% loss, 1 upstream", []float64{.05}, 0},
		{"5% loss, 3 upstreams", []float64{.05, .05, .05}, 0},
		// Nine attempts fit into five seconds: 0.2 % are lost.
		{"50% loss, 1 upstream", []float64{.5}, .015},
		// Twelve attempts: 0.02 %.
		{"50% loss, 3 upstreams", []float64{.5, .5, .5}, .005},
		{"the first of 3 is dead", []float64{1, 0, 0}, 0},
		{"the second of 3 is dead", []float64{0, 1, 0}, 0},
		{"the first of 3 is dead, 5% loss", []float64{1, .05, .05}, 0},
	}
}

type trouble struct {
	name   string
	loss   []float64
	errors float64 // share that is to be expected at most
}

// measure asks n different questions, 20 at a time, and returns how many had no
// answer and how long each took.
func (tr trouble) measure(tb testing.TB, n int) (failed int64, took []time.Duration) {
	var servers []*stubServer
	for _, share := range tr.loss {
		servers = append(servers, startStub(tb, lossy(tb, share)))
	}
	f := newForwarder(tb, nil, servers...)
	f.attempts.timeout = attemptTimeout
	var next, lost atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				start := time.Now()
				_, err := f.ResolveAnswer(tb.Context(), Query{Name: fmt.Sprintf("n%d.example.org.", i), Type: dns.TypeA, RecursionDesired: true})
				if err != nil {
					lost.Add(1)
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return lost.Load(), took
}

func TestTroubledUpstreams(t *testing.T) {
	const n = 400
	for _, tr := range troubles() {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			failed, took := tr.measure(t, n)
			if limit := int64(n*tr.errors) + 1; failed > limit || tr.errors == 0 && failed > 0 {
				t.Errorf("%d of %d questions had no answer", failed, n)
			}
			t.Logf("%d of %d without an answer, p50 %v, p99 %v", failed, n, took[n/2], took[n*99/100])
		})
	}
}

// BenchmarkTroubledUpstreams reports the share of questions without an answer, and
// how long they took: -benchtime 5000x.
func BenchmarkTroubledUpstreams(b *testing.B) {
	for _, tr := range troubles() {
		b.Run(tr.name, func(b *testing.B) {
			failed, took := tr.measure(b, b.N)
			b.ReportMetric(100*float64(failed)/float64(b.N), "%failed")
			b.ReportMetric(float64(took[b.N/2])/1e6, "p50-ms")
			b.ReportMetric(float64(took[b.N*99/100])/1e6, "p99-ms")
		})
	}
}

// forger is an upstream that sends forged answers before each right one, from its
// own address: a forger that has found the port already. What he does not know
// are ID and capitals.
type forger struct {
	conn  *net.UDPConn
	forge func(wire []byte, i int) // makes a forgery of the right answer
	each  int
	sent  atomic.Int64
}

func startForger(tb testing.TB, each int, forge func(wire []byte, i int)) (*forger, *stubServer) {
	udp, tcp := listenBoth(tb)
	tcp.Close() // whoever asks over TCP has been misled
	fg := &forger{conn: udp, each: each, forge: forge}
	done := make(chan struct{})
	go func() { defer close(done); fg.serve(tb) }()
	tb.Cleanup(func() { udp.Close(); <-done })
	return fg, &stubServer{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()}
}

func (fg *forger) serve(tb testing.TB) {
	buf := make([]byte, 4096)
	for {
		n, client, err := fg.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		r := new(dns.Msg)
		if r.Unpack(buf[:n]) != nil {
			tb.Error("the request is no message")
			return
		}
		forged, _ := reply(tb, r, dns.RcodeSuccess, r.Question[0].Name+" 60 IN A 203.0.113.66").Pack()
		for i := range fg.each {
			wire := slices.Clone(forged)
			fg.forge(wire, i)
			_, _ = fg.conn.WriteToUDPAddrPort(wire, client)
			fg.sent.Add(1)
		}
		right, _ := reply(tb, r, dns.RcodeSuccess, r.Question[0].Name+" 60 IN A 192.0.2.1").Pack()
		_, _ = fg.conn.WriteToUDPAddrPort(right, client)
	}
}

// guessing tries another ID each time, with the name in lower case or in random
// capitals.
func guessing(wire []byte, i int) {
	wire[0], wire[1] = byte(rand.Uint32()), byte(rand.Uint32())
	for j := headerLen; wire[j] != 0; j++ {
		if c := wire[j] | 0x20; 'a' <= c && c <= 'z' && wire[j] > 63 {
			wire[j] = c - byte(rand.Uint32()&1)*0x20*byte(i%2)
		}
	}
}

// deceive asks n questions of which each gets two forgeries, and returns how many
// of those were believed, and how many questions had no answer.
func deceive(tb testing.TB, n int) (fg *forger, believed, failed int) {
	fg, s := startForger(tb, maxMistakes-1, guessing)
	f := newForwarder(tb, nil, s)
	f.attempts.timeout = attemptTimeout
	for i := range n {
		a, err := f.ResolveAnswer(tb.Context(), Query{Name: fmt.Sprintf("account-%d.login.example.org.", i), Type: dns.TypeA, RecursionDesired: true})
		if err != nil {
			failed++
			continue
		}
		m, err := a.message([]byte(a.key.name), time.Now())
		if err != nil || len(m.Answer) != 1 || !m.Answer[0].(*dns.A).A.Equal(net.IPv4(192, 0, 2, 1)) {
			believed++
		}
	}
	return fg, believed, failed
}

func TestForgeriesAreNotBelieved(t *testing.T) {
	fg, believed, failed := deceive(t, 5000)
	if n := fg.sent.Load(); believed != 0 || failed != 0 || n < 10000 {
		t.Errorf("of %d forgeries %d were believed; %d questions had no answer", n, believed, failed)
	}
}

// BenchmarkForgeries reports how many of two forgeries for each question are
// believed: -benchtime 500000x makes a million.
func BenchmarkForgeries(b *testing.B) {
	fg, believed, failed := deceive(b, b.N)
	b.ReportMetric(float64(fg.sent.Load()), "forgeries")
	b.ReportMetric(float64(believed), "believed")
	b.ReportMetric(float64(failed), "failed")
}
