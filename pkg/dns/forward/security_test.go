package forward

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestSift(t *testing.T) {
	for _, tt := range []struct {
		name  string
		query Query
		rcode int
		texts []string // SOA and what follows "NS:" are for the authority section
		want  []string
	}{
		{"the answer", www(), 0, []string{"www.example.org. 60 IN A 192.0.2.1"}, []string{"www.example.org. 60 IN A 192.0.2.1"}},
		{"another name's address", www(), 0,
			[]string{"www.example.org. 60 IN A 192.0.2.1", "bank.example.com. 60 IN A 203.0.113.66"},
			[]string{"www.example.org. 60 IN A 192.0.2.1"}},
		{"another type", www(), 0, []string{"www.example.org. 60 IN TXT x", "www.example.org. 60 IN A 192.0.2.1"}, []string{"www.example.org. 60 IN A 192.0.2.1"}},
		{"a chain in any order", www(), 0,
			[]string{"b.example.net. 60 IN A 192.0.2.1", "a.example.com. 60 IN CNAME b.example.net.", "www.example.org. 60 IN CNAME a.example.com."},
			[]string{"b.example.net. 60 IN A 192.0.2.1", "a.example.com. 60 IN CNAME b.example.net.", "www.example.org. 60 IN CNAME a.example.com."}},
		{"a chain that does not begin with the question", www(), 0,
			[]string{"other.example.org. 60 IN CNAME bank.example.com.", "bank.example.com. 60 IN A 203.0.113.66"}, nil},
		{"two aliases of one name: the first", www(), 0,
			[]string{"www.example.org. 60 IN CNAME a.example.com.", "www.example.org. 60 IN CNAME b.example.com.", "b.example.com. 60 IN A 203.0.113.66", "a.example.com. 60 IN A 192.0.2.1"},
			[]string{"www.example.org. 60 IN CNAME a.example.com.", "www.example.org. 60 IN CNAME b.example.com.", "a.example.com. 60 IN A 192.0.2.1"}},
		{"DNAME above the name", www(), 0,
			[]string{"example.org. 60 IN DNAME example.net.", "www.example.org. 60 IN CNAME www.example.net.", "www.example.net. 60 IN A 192.0.2.1"},
			[]string{"example.org. 60 IN DNAME example.net.", "www.example.org. 60 IN CNAME www.example.net.", "www.example.net. 60 IN A 192.0.2.1"}},
		{"DNAME elsewhere", www(), 0, []string{"example.com. 60 IN DNAME evil.example."}, nil},
		{"case of owners", www(), 0, []string{"WWW.Example.ORG. 60 IN A 192.0.2.1"}, []string{"www.example.org. 60 IN A 192.0.2.1"}},
		{"CNAME itself", Query{Name: "www.example.org.", Type: dns.TypeCNAME}, 0,
			[]string{"www.example.org. 60 IN CNAME a.example.com.", "a.example.com. 60 IN CNAME b.example.com."}, []string{"www.example.org. 60 IN CNAME a.example.com."}},
		{"ANY", Query{Name: "www.example.org.", Type: dns.TypeANY}, 0,
			[]string{"www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN TXT x", "x.example.org. 60 IN TXT x"},
			[]string{"www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN TXT \"x\""}},
		{"nothing, and the zone says so", www(), dns.RcodeNameError, []string{soa60}, []string{"example.org. 300 IN SOA ns.example.org. host.example.org. 1 2 3 4 60"}},
		{"nothing, says another zone", www(), dns.RcodeNameError, []string{"example.net. 300 IN SOA ns.example.net. host.example.net. 1 2 3 4 60"}, nil},
		{"delegations to whoever (NXNS)", www(), 0, []string{"NS:example.org. 60 IN NS ns1.victim.example.", "NS:example.org. 60 IN NS ns2.victim.example."}, nil},
		{"name servers beside an answer", www(), 0, []string{"www.example.org. 60 IN A 192.0.2.1", "NS:org. 60 IN NS ns.evil.example."}, []string{"www.example.org. 60 IN A 192.0.2.1"}},
		{"a referral, for those who want one", Query{Name: "www.example.org.", Type: dns.TypeA, RecursionDesired: false}, 0,
			[]string{"NS:example.org. 60 IN NS ns1.example.net.", "NS:example.com. 60 IN NS ns1.example.net."}, []string{"example.org. 60 IN NS ns1.example.net."}},
		{"signatures", Query{Name: "www.example.org.", Type: dns.TypeA, RecursionDesired: true, DNSSEC: true}, 0,
			[]string{"www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN RRSIG A 8 3 60 20300101000000 20200101000000 1 example.org. AAAA", "www.example.org. 60 IN RRSIG TXT 8 3 60 20300101000000 20200101000000 1 example.org. AAAA"},
			[]string{"www.example.org. 60 IN A 192.0.2.1", "www.example.org. 60 IN RRSIG A 8 3 60 20300101000000 20200101000000 1 example.org. AAAA"}},
		{"an alias of another class", www(), 0,
			[]string{"www.example.org. 60 CH CNAME a.example.com.", "a.example.com. 60 IN A 203.0.113.66"}, nil},
		{"another class", www(), 0, []string{"www.example.org. 60 CH A 192.0.2.1"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := new(dns.Msg)
			r.SetQuestion(tt.query.Name, tt.query.Type)
			m := reply(t, r, tt.rcode)
			for _, text := range tt.texts {
				text, authority := strings.CutPrefix(text, "NS:")
				part := reply(t, r, 0, text)
				if authority {
					part.Answer, part.Ns = nil, part.Answer
				}
				m.Answer, m.Ns = append(m.Answer, part.Answer...), append(m.Ns, part.Ns...)
			}
			m.Extra = reply(t, r, 0, "bank.example.com. 60 IN A 203.0.113.66").Answer
			k, _, err := tt.query.key()
			if err != nil {
				t.Fatal(err)
			}
			kept, err := sift(m, k)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rr := range append(kept.Answer, kept.Ns...) {
				got = append(got, strings.Join(strings.Fields(rr.String()), " "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || len(kept.Extra) > 0 {
				t.Errorf("(-want +got):\n%s%v", diff, kept.Extra)
			}
		})
	}
}

func TestChainsWithoutEnd(t *testing.T) {
	chain := func(n int) []string {
		texts := []string{"www.example.org. 60 IN CNAME n0.example.org."}
		for i := range n {
			texts = append(texts, fmt.Sprintf("n%d.example.org. 60 IN CNAME n%d.example.org.", i, i+1))
		}
		return texts
	}
	for name, tt := range map[string]struct {
		texts []string
		ok    bool
	}{
		"long":     {chain(14), true},
		"too long": {chain(20), false},
		"circle":   {[]string{"www.example.org. 60 IN CNAME a.example.org.", "a.example.org. 60 IN CNAME www.example.org."}, false},
		"itself":   {[]string{"www.example.org. 60 IN CNAME www.example.org."}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newForwarder(t, nil, startStub(t, always(t, dns.RcodeSuccess, tt.texts...))).Resolve(t.Context(), www())
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, errChain) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestUpstreamThatSpellsNamesItsOwnWay is asked over TCP once, and from then on
// without capitals that mean something.
func TestUpstreamThatSpellsNamesItsOwnWay(t *testing.T) {
	for name, spell := range map[string]func(string) string{"lower case": strings.ToLower, "upper case": strings.ToUpper} {
		t.Run(name, func(t *testing.T) {
			s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
				r.Question[0].Name = spell(r.Question[0].Name)
				echo(t)(w, r, false)
			})
			f := newForwarder(t, nil, s)
			for i := range 10 {
				name := fmt.Sprintf("a-name-of-many-letters-%d.example.org.", i)
				wantAnswer(t, ask(t, f, name, dns.TypeA), dns.RcodeSuccess, name+" 60 IN A 192.0.2.1")
			}
			// In capitals the answer never is what was asked, so it is always fetched over
			// TCP: that is slow, but nobody can guess it.
			if n := s.tcp.Load(); name == "lower case" && n != 1 {
				t.Errorf("%d requests over TCP, want 1", n)
			}
		})
	}
	t.Run("without TCP", func(t *testing.T) {
		_, s := startForger(t, 0, nil) // it has no TCP
		lowering := &stubServer{addr: lowercasing(t, s.addr)}
		f := newForwarder(t, nil, lowering)
		for i := range 3 {
			name := fmt.Sprintf("a-name-of-many-letters-%d.example.org.", i)
			wantAnswer(t, ask(t, f, name, dns.TypeA), dns.RcodeSuccess, name+" 60 IN A 192.0.2.1")
		}
	})
}

// TestOneLuckyGuessDoesNotMakeTheNextEasier has a forger who knows the ID of one
// question, but not its capitals, and an upstream without TCP.
func TestOneLuckyGuessDoesNotMakeTheNextEasier(t *testing.T) {
	lucky := true
	fg, s := startForger(t, 1, func(wire []byte, _ int) {
		if copy(wire[headerLen:], lower(wire[headerLen:len(wire)-20])); !lucky {
			wire[0]++
		}
		lucky = false
	})
	f := newForwarder(t, nil, s)
	const name = "a-name-of-so-many-letters-that-they-are-not-all-small.example.org."
	wantAnswer(t, ask(t, f, name, dns.TypeA), dns.RcodeSuccess, name+" 60 IN A 192.0.2.1")
	if _, cased := f.upstreams.get(s.addr).manners(time.Now()); !cased || fg.sent.Load() != 2 {
		t.Errorf("after %d forgeries the upstream counts as one that keeps case: %v", fg.sent.Load(), cased)
	}
}

// lowercasing is a proxy in front of an upstream that turns names into lower case.
func lowercasing(t *testing.T, upstream netip.AddrPort) netip.AddrPort {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, client, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			r := new(dns.Msg)
			if r.Unpack(buf[:n]) != nil {
				continue
			}
			r.Question[0].Name = strings.ToLower(r.Question[0].Name)
			m, err := dns.Exchange(r, upstream.String())
			if err != nil {
				continue
			}
			wire, _ := m.Pack()
			_, _ = conn.WriteToUDPAddrPort(wire, client)
		}
	})
	t.Cleanup(func() { conn.Close(); wg.Wait() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestManyWrongDatagramsLeadToTCP: whoever sends them shall not have more guesses.
func TestManyWrongDatagramsLeadToTCP(t *testing.T) {
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, overTCP bool) {
		if overTCP {
			echo(t)(w, r, true)
			return
		}
		wrong := reply(t, r, dns.RcodeSuccess, r.Question[0].Name+" 60 IN A 203.0.113.66")
		for i := range 100 {
			wrong.Id = r.Id + 1 + uint16(i)
			_ = w.WriteMsg(wrong)
		}
	})
	f := newForwarder(t, nil, s)
	wantAnswer(t, ask(t, f, www().Name, www().Type), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
	if s.tcp.Load() != 1 {
		t.Errorf("%d requests over TCP", s.tcp.Load())
	}
}

// TestNothingIsSaidToStrangers is what TuDoor needs: a resolver that answers, or
// gives up, when something odd comes to the port that it waits at.
func TestNothingIsSaidToStrangers(t *testing.T) {
	odd := map[string]func(r *dns.Msg) []byte{
		"a question":       func(r *dns.Msg) []byte { w, _ := r.Pack(); return w },
		"empty":            func(*dns.Msg) []byte { return nil },
		"one octet":        func(*dns.Msg) []byte { return []byte{0} },
		"a header":         func(r *dns.Msg) []byte { return binary.BigEndian.AppendUint16(nil, r.Id+1) },
		"counts of nobody": func(*dns.Msg) []byte { return bytes.Repeat([]byte{0xff}, 12) },
		"pointers in a circle": func(r *dns.Msg) []byte {
			return append(binary.BigEndian.AppendUint16(nil, r.Id), 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1)
		},
	}
	for name, make := range odd {
		t.Run(name, func(t *testing.T) {
			s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, _ bool) {
				_, _ = w.Write(make(r))
				echo(t)(w, r, false)
			})
			f := newForwarder(t, nil, s)
			wantAnswer(t, ask(t, f, www().Name, www().Type), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
			if s.udp.Load() != 1 || s.tcp.Load() != 0 {
				t.Errorf("the upstream got %d datagrams and %d connections", s.udp.Load(), s.tcp.Load())
			}
		})
	}
}

// TestMessagesThatGrow has an upstream send, over TCP, what is small on the wire
// and large as objects (CVE-2026-82399).
func TestMessagesThatGrow(t *testing.T) {
	k, _, _ := www().key()
	r := newRequest(k, true, false)
	long := strings.Repeat("\x3f"+strings.Repeat("x", 63), 3) + "\x31" + strings.Repeat("x", 49) + "\x00"
	bomb := append([]byte(nil), r.wire[:r.questionEnd]...)
	bomb[2], bomb[11] = bitQR>>8, 0
	at := len(bomb)
	bomb = append(bomb, long...)
	bomb = append(bomb, 0, 16, 0, 1, 0, 0, 0, 60, 0, 0)
	n := 1
	for ; len(bomb) < 65000; n++ {
		bomb = append(bomb, 0xc0|byte(at>>8), byte(at), 0, 16, 0, 1, 0, 0, 0, 60, 0, 0)
	}
	binary.BigEndian.PutUint16(bomb[6:], uint16(n))
	if _, how, err := r.read(bomb); how != exact || !errors.Is(err, errTooLarge) {
		t.Errorf("match %d, error %v, want %v", how, err, errTooLarge)
	}
	if got := testing.AllocsPerRun(10, func() { _, _, _ = r.read(bomb) }); got > 20 {
		t.Errorf("%v allocations to find out", got)
	}
	binary.BigEndian.PutUint16(bomb[6:], 65535)
	if _, _, err := r.read(bomb); err == nil {
		t.Error("more records were promised than there are, and nobody minds")
	}
	// As many addresses as a message holds are no attack.
	fair := append([]byte(nil), bomb[:at]...)
	for n = 0; len(fair) < 65000; n++ {
		fair = append(fair, 0xc0, headerLen, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, byte(n>>8), byte(n))
	}
	binary.BigEndian.PutUint16(fair[6:], uint16(n))
	m, _, err := r.read(fair)
	if err != nil || len(m.Answer) != n {
		t.Fatalf("%d addresses: %v", n, err)
	}
	if a, err := answerOf(m, k, time.Now()); err != nil || a.Len() > 65535 {
		t.Errorf("%d addresses: %v", n, err)
	}
}

// TestSlowUpstreamsCostLittle has many upstreams' connections promise 64 KiB each
// and send an octet now and then (slow-loris the other way round).
func TestSlowUpstreamsCostLittle(t *testing.T) {
	udp, tcp := listenBoth(t)
	var wg sync.WaitGroup
	t.Cleanup(func() { udp.Close(); tcp.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 512)
		for {
			n, client, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			buf[2] |= bitQR>>8 | bitTC>>8
			_, _ = udp.WriteToUDPAddrPort(buf[:n], client)
		}
	})
	wg.Go(func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_, _ = conn.Write([]byte{0xff, 0xff})
				for range 100 {
					if _, err := conn.Write([]byte{0}); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
		}
	})
	f := newForwarder(t, nil, &stubServer{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()})
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	var asking sync.WaitGroup
	start := time.Now()
	for i := range 500 {
		asking.Go(func() {
			_, _ = f.ResolveAnswer(t.Context(), Query{Name: fmt.Sprintf("n%d.example.org.", i), Type: dns.TypeA})
		})
	}
	waitFor(t, func() bool { return len(f.tcp) == maxTCP })
	if grown := int64(heap()) - int64(before); grown > 24<<20 {
		t.Errorf("500 questions hold %d KiB", grown>>10)
	}
	asking.Wait()
	if took := time.Since(start); took > totalTimeout+time.Second {
		t.Errorf("the last question was given up after %v", took)
	}
}

// TestUpstreamsCannotFillMemory has an upstream answer all questions with as much
// as it can.
func TestUpstreamsCannotFillMemory(t *testing.T) {
	var texts []string
	for i := range 150 {
		texts = append(texts, fmt.Sprintf("\x00. 3600 IN TXT %q", strings.Repeat("x", 200)+fmt.Sprint(i)))
	}
	s := startStub(t, func(w dns.ResponseWriter, r *dns.Msg, overTCP bool) {
		m := reply(t, r, dns.RcodeSuccess)
		if m.Truncated = !overTCP; overTCP {
			for _, text := range texts {
				rr, _ := dns.NewRR(strings.Replace(text, "\x00.", r.Question[0].Name, 1))
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})
	f := newForwarder(t, nil, s)
	f.attempts.timeout = attemptTimeout
	for i := range 600 {
		if _, err := f.ResolveAnswer(t.Context(), Query{Name: fmt.Sprintf("n%d.example.org.", i), Type: dns.TypeTXT}); err != nil {
			t.Fatal(err)
		}
		if n := f.cache.sizes().bytes; n > maxCacheBytes {
			t.Fatalf("%d bytes after %d answers", n, i)
		}
	}
	if n := f.cache.sizes(); n.evictions[positive] == 0 || n.bytes < maxCacheBytes/2 {
		t.Errorf("that was too little to try it: %+v", n)
	}
}

// TestUpstreamThatHangsUp sends too little over TCP, in several ways.
func TestUpstreamThatHangsUp(t *testing.T) {
	for name, text := range map[string][]byte{"nothing": nil, "half a length": {0}, "no message": {0, 0}, "less than promised": {0, 200, 1, 2, 3}} {
		t.Run(name, func(t *testing.T) {
			udp, tcp := listenBoth(t)
			var wg sync.WaitGroup
			t.Cleanup(func() { udp.Close(); tcp.Close(); wg.Wait() })
			wg.Go(func() {
				for {
					conn, err := tcp.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 512))
					_, _ = conn.Write(text)
					conn.Close()
				}
			})
			f := newForwarder(t, nil)
			k, _, _ := www().key()
			_, _, err := f.overTCP(t.Context(), udp.LocalAddr().(*net.UDPAddr).AddrPort(), newRequest(k, true, true))
			if err == nil || errors.Is(err, io.ErrNoProgress) {
				t.Errorf("error %v", err)
			}
		})
	}
}
