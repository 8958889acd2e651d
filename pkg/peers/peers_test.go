package peers

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// town is some daemons at addresses of the loopback, which all are of this machine.
type town struct {
	*testing.T
	port   uint16
	roster atomic.Pointer[Roster]
	people map[string]*person
}

type person struct {
	*Peers
	address netip.Addr
	stop    func()
}

func newTown(t *testing.T, n int) *town {
	w := &town{T: t, port: freePort(t), people: map[string]*person{}}
	addresses := map[string]netip.Addr{}
	for i := range n {
		addresses[fmt.Sprintf("n%d", i)] = netip.AddrFrom4([4]byte{127, 5, 0, byte(i + 1)})
	}
	w.roster.Store(&Roster{Addrs: addresses})
	for name := range addresses {
		w.start(name)
	}
	return w
}

func freePort(t *testing.T) uint16 {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func (w *town) start(name string) {
	address := w.roster.Load().Addrs[name]
	p, err := New(Options{
		NodeName: name, Port: w.port,
		Listen:     func() []netip.Addr { return []netip.Addr{address, netip.MustParseAddr("192.0.2.1")} },
		Nodes:      w.roster.Load,
		Watermark:  func() uint64 { return uint64(name[1]) },
		Finding:    func(backend [16]byte) Finding { return Finding{State: backend[0], Cause: name[1], Detail: 503} },
		Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Run(ctx); err != nil {
			w.Error(err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	w.people[name] = &person{p, address, stop}
	w.Cleanup(stop)
}

func (w *town) eventually(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("not within 10 s: %s", what)
		}
	}
}

func states(in map[string]Opinion) map[string]State {
	out := map[string]State{}
	for name, o := range in {
		out[name] = o.State
	}
	return out
}

// TestDaemonsHearEachOther: six of them, of which each probes three; a leader
// probes all, and one whose daemon stops is alive: its kernel says so.
func TestDaemonsHearEachOther(t *testing.T) {
	w := newTown(t, 6)
	leader := w.people["n0"]
	all := map[string]State{"n1": Alive, "n2": Alive, "n3": Alive, "n4": Alive, "n5": Alive}
	w.eventually("n0 hears those that it probes", func() bool {
		return leader.count()[Alive] == watched && len(leader.Opinions()) == 5
	})
	leader.ProbeAll(true)
	w.eventually("n0 hears all", func() bool { return cmp.Equal(all, states(leader.Opinions())) })

	t.Log("what others hear")
	w.eventually("n3 is alive for all who probe it", func() bool {
		got := states(leader.About(t.Context(), "n3"))
		return len(got) >= watched-1 && maps.Equal(got, filled(got, Alive))
	})

	t.Log("a daemon that stops")
	w.people["n3"].stop()
	time.Sleep(4 * time.Second)
	if got := states(leader.Opinions()); !cmp.Equal(all, got) {
		t.Errorf("the daemon of n3 has stopped, and n0 thinks %v", got)
	}

	t.Log("a follower again")
	leader.ProbeAll(false)
	w.eventually("n0 probes few", func() bool { return leader.count()[Alive] == watched })
}

func filled(names map[string]State, s State) map[string]State {
	out := map[string]State{}
	for n := range names {
		out[n] = s
	}
	return out
}

// TestFindings: each node that is there says what it finds of that backend.
func TestFindings(t *testing.T) {
	w := newTown(t, 3)
	nodes := map[string]netip.Addr{"n0": w.people["n0"].address, "n2": w.people["n2"].address, "gone": netip.MustParseAddr("127.5.0.77"), "nowhere": {}}
	var got map[string]Finding
	w.eventually("they listen", func() bool {
		got = w.people["n1"].Findings(t.Context(), nodes, [16]byte{2, 9})
		return len(got) == 2
	})
	if want := map[string]Finding{"n0": {2, '0', 503}, "n2": {2, '2', 503}}; !cmp.Equal(want, got) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestAskForWatermarks(t *testing.T) {
	w := newTown(t, 3)
	w.eventually("all listen", func() bool {
		return len(w.people["n0"].Ask(t.Context(), w.roster.Load().Addrs)) == 3
	})
	w.people["n2"].stop()
	mute, err := net.ListenPacket("udp", fmt.Sprintf("127.5.0.9:%d", w.port))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	nodes := maps.Clone(w.roster.Load().Addrs)
	nodes["mute"] = netip.MustParseAddr("127.5.0.9")
	nodes["none"] = netip.Addr{}
	began := time.Now()
	got := w.people["n0"].Ask(t.Context(), nodes)
	if diff := cmp.Diff(map[string]uint64{"n0": '0', "n1": '1'}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if took := time.Since(began); took > 3*patience {
		t.Errorf("it took %v, more than its patience", took)
	}
}

// TestOneThatLeavesWhileSilent is still probed, and one that leaves alive is not.
func TestOneThatLeavesWhileSilent(t *testing.T) {
	w := newTown(t, 3)
	p := w.people["n0"]
	w.eventually("n0 hears both", func() bool { return p.count()[Alive] == 2 })
	w.people["n2"].stop()
	mute, err := net.ListenPacket("udp", fmt.Sprintf("127.5.0.3:%d", w.port)) // as if its machine were off
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	w.eventually("n2 is silent", func() bool { return p.Opinions()["n2"].State == Silent })
	w.roster.Store(&Roster{Addrs: map[string]netip.Addr{"n0": p.address}})
	w.eventually("n1 is forgotten", func() bool { _, known := p.Opinions()["n1"]; return !known })
	if got := p.Opinions()["n2"]; got.State != Silent {
		t.Errorf("n2 is %+v", got)
	}
}

// TestRepliesAreNoLonger holds that a node cannot be used to flood another, nor
// be made to say anything to what is no question.
func TestRepliesAreNoLonger(t *testing.T) {
	w := newTown(t, 1)
	to := netip.AddrPortFrom(w.people["n0"].address, w.port)
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say := func(b []byte) (int, message) {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		var reply [2048]byte
		n, _ := conn.Read(reply[:])
		m, _ := decode(reply[:n])
		return n, m
	}
	w.eventually("n0 listens", func() bool { return len(w.people["n0"].Ask(t.Context(), w.roster.Load().Addrs)) == 1 })
	for _, m := range []message{
		{kind: kindProbe, nonce: 9}, {kind: kindAsk, nonce: 9, subject: netip.MustParseAddr("127.5.0.2")},
		{kind: kindAsk, nonce: 9},
	} {
		b := m.encode()
		if n, got := say(b[:]); n != len(b) || got.nonce != 9 {
			t.Errorf("%v: a reply of %d bytes with the nonce %d to %d bytes", m.kind, n, got.nonce, len(b))
		}
	}
	answer := message{kind: kindAnswer, nonce: 9}.encode()
	for name, b := range map[string][]byte{"an answer": answer[:], "a byte": {1}, "garbage": make([]byte, 1400)} {
		if n, _ := say(b); n != 0 {
			t.Errorf("%s gets a reply of %d bytes", name, n)
		}
	}
}

// TestReplyWithAnotherNonceIsNoSign: whoever can send with the address of a node
// cannot keep it alive.
func TestReplyWithAnotherNonceIsNoSign(t *testing.T) {
	liar, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		var b [64]byte
		for {
			n, from, err := liar.ReadFromUDPAddrPort(b[:])
			if err != nil {
				return
			}
			m, _ := decode(b[:n])
			lie := message{kind: kindAnswer, nonce: m.nonce + 1}.encode()
			_, _ = liar.WriteToUDPAddrPort(lie[:], from)
		}
	})
	l := newLine(liar.LocalAddr().(*net.UDPAddr).AddrPort())
	l.sendProbe(time.Now())
	if m, ok := l.exchange(t.Context(), message{kind: kindProbe}); ok {
		t.Errorf("taken for a reply: %+v", m)
	}
	if got := l.opinion(time.Now()); got.State != Unknown {
		t.Errorf("the node is %v", got.State)
	}
	l.close()
	_ = liar.Close()
	wg.Wait()
}

// BenchmarkProbe is a probe and its answer, both ends of it.
func BenchmarkProbe(b *testing.B) {
	m, err := newMetrics(prometheus.NewRegistry(), func() map[State]int { return nil })
	if err != nil {
		b.Fatal(err)
	}
	ls := newListeners(Options{Watermark: func() uint64 { return 1 }}, m, nil)
	at, err := listen(b.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	ls.open[netip.IPv4Unspecified()] = at
	ls.readers.Go(func() { ls.answer(at) })
	l := newLine(at.LocalAddr().(*net.UDPAddr).AddrPort())
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := l.exchange(b.Context(), message{kind: kindProbe}); !ok {
			b.Fatal("no answer")
		}
	}
	l.close()
	ls.close()
}
