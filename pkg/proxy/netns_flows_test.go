//go:build netns

package proxy_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/test/netlab"
)

// grace is how long datagrams may go astray once the rules are in.
const grace = 100 * time.Millisecond

// stream is a client that sends a datagram each millisecond, always from the
// same port, whatever comes of it.
type stream struct {
	name string
	from *netlab.Namespace
	to   netip.AddrPort
	id   byte
}

// arrival is a datagram that has arrived somewhere.
type arrival struct {
	stream byte
	where  string
	sent   time.Time
}

// watchers record what arrives in pods, and who sends.
type watchers struct {
	t     testing.TB
	began time.Time
	mu    sync.Mutex
	seen  []arrival
	open  []*net.UDPConn
	wait  sync.WaitGroup
}

// listen records what arrives at an address, under the name of the namespace.
func (w *watchers) listen(ns *netlab.Namespace, at netip.AddrPort) {
	w.t.Helper()
	c := w.socket(ns, at)
	w.wait.Go(func() {
		var b [64]byte
		for {
			n, _, err := c.ReadFromUDPAddrPort(b[:])
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && n == 9 {
				sent := w.began.Add(time.Duration(binary.BigEndian.Uint64(b[1:])))
				w.mu.Lock()
				w.seen = append(w.seen, arrival{b[0], ns.Name, sent})
				w.mu.Unlock()
			}
		}
	})
}

// send starts a stream.
func (w *watchers) send(s stream) {
	w.t.Helper()
	any := netip.IPv6Unspecified()
	if s.to.Addr().Is4() {
		any = netip.IPv4Unspecified()
	}
	c := w.socket(s.from, netip.AddrPortFrom(any, 5000+uint16(s.id)))
	w.wait.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			b := binary.BigEndian.AppendUint64([]byte{s.id}, uint64(time.Since(w.began)))
			if _, err := c.WriteToUDPAddrPort(b, s.to); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
}

func (w *watchers) socket(ns *netlab.Namespace, at netip.AddrPort) *net.UDPConn {
	w.t.Helper()
	var c *net.UDPConn
	if err := ns.Do(func() error {
		var err error
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	w.open = append(w.open, c)
	return c
}

func (w *watchers) close() {
	for _, c := range w.open {
		_ = c.Close()
	}
	w.wait.Wait()
}

// between returns how many datagrams of a stream that were sent in the meantime
// arrived where.
func (w *watchers) between(id byte, from, to time.Time) map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]int{}
	for _, a := range w.seen {
		if a.stream == id && a.sent.After(from) && a.sent.Before(to) {
			out[a.where]++
		}
	}
	return out
}

// astray returns when the datagrams were sent, in order, that reached another place than those.
func (w *watchers) astray(from time.Time, right []string) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []time.Time
	for _, a := range w.seen {
		if a.sent.After(from) && !slices.Contains(right, a.where) {
			out = append(out, a.sent)
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// stage is a change, and where datagrams have to go from then on: to one of
// those, or to nobody.
type stage struct {
	what   string
	change []*model.Service
	right  []string
}

// stages is the life of a Service at the addresses of n.dual(1, 30080).
func (n *field) stages() []stage {
	again := n.dual(2, 30080, "b") // another Service with the addresses of the first
	again.ClusterIPs = n.dual(1, 30080).ClusterIPs
	return []stage{
		{"swapped", []*model.Service{n.dual(1, 30080, "b")}, []string{"b"}},
		{"drained", []*model.Service{n.dual(1, 30080)}, nil},
		{"back", []*model.Service{n.dual(1, 30080, "c")}, []string{"c"}},
		{"deleted", []*model.Service{gone(1)}, nil},
		{"made anew", []*model.Service{n.dual(1, 30080, "a", "c")}, []string{"a", "c"}},
		{"one fewer", []*model.Service{n.dual(1, 30080, "c")}, []string{"c"}},
		{"addresses reused", []*model.Service{gone(1), again}, []string{"b"}},
		{"and returned", []*model.Service{gone(2), n.dual(1, 30080, "a")}, []string{"a"}},
	}
}

// TestRealDatagramsThatNeverPause takes a Service through its life under clients
// that never stop sending from one port: each time, what they send soon reaches the right place, and
// nothing else any more. How soon is measured by the benchmark below.
func TestRealDatagramsThatNeverPause(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		w := n.watch("a", "b", "c")
		defer w.close()
		n.start()
		svc := n.dual(1, 30080, "a")
		n.publish(svc)
		streams := n.streams(svc)
		for _, s := range streams {
			w.send(s)
		}
		for _, s := range n.stages() {
			n.publish(s.change...)
			in := time.Now()
			n.until("datagrams go where they should: "+s.what, func() bool {
				time.Sleep(grace)
				return w.right(s, streams, time.Now().Add(-grace/2))
			})
			time.Sleep(grace)
			w.check(s, streams, time.Now().Add(-grace), time.Now())
			if wrong := w.astray(in, s.right); len(wrong) > 0 {
				t.Logf("%s: %d went astray, the last one %s after the rules were in", s.what, len(wrong), wrong[len(wrong)-1].Sub(in).Round(time.Millisecond))
			}
		}
	})
}

// BenchmarkRealDatagramsAstray takes a Service through its life under twelve
// clients that send a datagram each millisecond. It reports how many datagrams went to the wrong place more than 100 ms
// after the change was published, and after its rules were in, of how many; and how long after the
// latter the last one was sent, at the median of the changes and at worst.
func BenchmarkRealDatagramsAstray(b *testing.B) {
	eachBackendOf(b, func(b *testing.B, n *field) {
		w := n.watch("a", "b", "c")
		defer w.close()
		n.start()
		svc := n.dual(1, 30080, "a")
		n.publish(svc)
		for _, s := range n.streams(svc) {
			w.send(s)
		}
		var lasts []time.Duration
		sincePublished, sinceIn := 0, 0
		for b.Loop() {
			for _, s := range n.stages() {
				published := time.Now()
				n.publish(s.change...)
				in := time.Now()
				time.Sleep(4 * grace)
				last := time.Duration(0)
				for _, sent := range w.astray(published, s.right) {
					last = max(0, sent.Sub(in))
					if sent.Sub(published) > grace {
						sincePublished++
					}
					if sent.Sub(in) > grace {
						sinceIn++
					}
				}
				lasts = append(lasts, last)
			}
		}
		slices.Sort(lasts)
		b.ReportMetric(float64(sincePublished), "astray-100ms-after-change")
		b.ReportMetric(float64(sinceIn), "astray-100ms-after-rules")
		b.ReportMetric(float64(len(w.seen)), "datagrams")
		b.ReportMetric(float64(lasts[len(lasts)/2].Milliseconds()), "p50-ms")
		b.ReportMetric(float64(lasts[len(lasts)-1].Milliseconds()), "worst-ms")
	})
}

// watch records what arrives at the endpoints in these pods, and what leaves the
// node for Services untranslated.
func (n *field) watch(pods ...string) *watchers {
	n.t.Helper()
	w := &watchers{t: n.t, began: time.Now()}
	for _, pod := range pods {
		for _, a := range n.Pod(pod).Addrs {
			w.listen(n.Pod(pod), netip.AddrPortFrom(a, 8080))
		}
	}
	return w
}

// streams returns clients of all kinds: a pod, the node and somebody outside, by
// cluster IP and node port.
func (n *field) streams(svc *model.Service) []stream {
	var out []stream
	for family := range 2 {
		port := netip.AddrPortFrom(n.Node.Addrs[family], svc.Ports[0].NodePort)
		for _, s := range []stream{
			{"pod to cluster IP", n.Pod("client"), vip(svc, family), 0},
			{"outside to cluster IP", n.Outside, vip(svc, family), 0},
			{"node to cluster IP", n.Node, vip(svc, family), 0},
			{"outside to node port", n.Outside, port, 0},
			{"pod to node port", n.Pod("client"), port, 0},
			{"node to its own node port", n.Node, port, 0},
		} {
			s.id = byte(len(out) + 1)
			s.name = fmt.Sprintf("%s, %s", s.name, []string{"IPv4", "IPv6"}[family])
			out = append(out, s)
		}
	}
	return out
}

// check says which datagrams, sent in the meantime, went astray, and which
// streams reached nobody.
func (w *watchers) check(s stage, streams []stream, from, to time.Time) {
	w.t.Helper()
	for _, stream := range streams {
		got := w.between(stream.id, from, to)
		for _, where := range s.right {
			delete(got, where)
		}
		if len(got) > 0 {
			w.t.Errorf("%s: datagrams from %s reach %v", s.what, stream.name, got)
		}
	}
}

// right reports whether all streams go where they should since then.
func (w *watchers) right(s stage, streams []stream, since time.Time) bool {
	for _, stream := range streams {
		got := w.between(stream.id, since, time.Now())
		all := len(got)
		for _, where := range s.right {
			delete(got, where)
		}
		if len(got) > 0 || len(s.right) > 0 && all == 0 {
			return false
		}
	}
	return true
}

// TestRealFlowsOverRestart holds that a Proxy that starts cuts what became stale
// while none ran, and leaves the flows that are right.
func TestRealFlowsOverRestart(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		w := n.watch("a", "b")
		defer w.close()
		n.start()
		stays, goes := n.dual(1, 30080, "a", "b"), n.dual(2, 30081, "a")
		n.publish(stays, goes)
		streams := n.streams(stays)
		for _, s := range streams {
			w.send(s)
		}
		later := n.streams(goes)
		for i := range later {
			later[i].id += 100
			w.send(later[i])
		}
		time.Sleep(grace)
		n.stop()
		n.source.publish(n.dual(2, 30081, "b"))
		began := time.Now()
		n.start()
		n.settle()
		moved := stage{"after the restart", nil, []string{"b"}}
		n.until("stale flows are cut", func() bool {
			time.Sleep(grace)
			return w.right(moved, later, time.Now().Add(-grace/2))
		})
		time.Sleep(10 * grace) // until all has been looked at
		w.check(moved, later, time.Now().Add(-grace), time.Now())
		for _, s := range streams {
			before, after := w.between(s.id, time.Time{}, began), w.between(s.id, began, time.Now())
			if len(before) != 1 || len(after) != 1 || where(before) != where(after) {
				t.Errorf("%s reached %v before the restart and %v after it", s.name, before, after)
			}
		}
	})
}

func where(m map[string]int) string {
	for name := range m {
		return name
	}
	return ""
}

// TestRealHandshakes holds that a connection whose first packet went to an
// endpoint that had died reaches another one with its second, and that one that is
// established is left to end in peace.
func TestRealHandshakes(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"), n.Pod("b"))
		echo := n.echo(n.Pod("c"), 8080)
		n.start()
		dead := n.dual(1, 30080)
		for family, a := range []string{"10.0.1.77", "fd02:0:0:1::77"} { // nobody has it
			dead.Groups[family].Endpoints = []model.Endpoint{{Addr: netip.MustParseAddr(a), Ready: true, Serving: true, Node: "there"}}
		}
		n.publish(dead, n.dual(2, 0, "c"))
		held := n.hold(vip(n.dual(2, 0), 0))
		var wait sync.WaitGroup
		for family := range 2 {
			for i, to := range []netip.AddrPort{vip(dead, family), netip.AddrPortFrom(n.Node.Addrs[family], 30080)} {
				wait.Go(func() {
					if said, err := n.insist(n.Outside, uint16(7000+2*family+i), to); err != nil || !strings.HasPrefix(said, "a ") {
						t.Errorf("%s: got %q, %v, want a", to, said, err)
					}
				})
			}
		}
		time.Sleep(grace)
		n.publish(n.dual(1, 30080, "a"), n.dual(2, 0, "b"))
		wait.Wait()
		if err := held(); err != nil {
			t.Errorf("an established connection to an endpoint that is gone: %v", err)
		}
		if out, err := n.Node.Command(t.Context(), "", "conntrack", "-L", "-p", "tcp"); err != nil || strings.Contains(out, "10.0.1.77") {
			t.Errorf("%v; left:\n%s", err, out)
		}
		echo()
	})
}

// insist connects from a port and reads what is said, with the patience of a
// kernel that tries after 0, 1, 3 and 7 seconds.
func (n *field) insist(from *netlab.Namespace, port uint16, to netip.AddrPort) (string, error) {
	var said []byte
	err := from.Do(func() error {
		c, err := (&net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{Port: int(port)}}).DialContext(n.t.Context(), "tcp", to.String())
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		said, err = io.ReadAll(c)
		return err
	})
	return string(said), err
}

// echo starts a server of TCP that sends back what it gets, until the returned function is called.
func (n *field) echo(ns *netlab.Namespace, port uint16) (stop func()) {
	n.t.Helper()
	var l net.Listener
	if err := ns.Do(func() error {
		var err error
		l, err = net.Listen("tcp", netip.AddrPortFrom(ns.Addrs[0], port).String())
		return err
	}); err != nil {
		n.t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		var b [1]byte
		for {
			if _, err := c.Read(b[:]); err != nil {
				return
			}
			if _, err := c.Write(b[:]); err != nil {
				return
			}
		}
	})
	return func() {
		_ = l.Close()
		wait.Wait()
	}
}

// hold opens a connection from the client pod. The returned function says whether it still works, and
// closes it.
func (n *field) hold(to netip.AddrPort) func() error {
	n.t.Helper()
	var c net.Conn
	ask := func() error {
		if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 1))
		return err
	}
	if err := n.Pod("client").Do(func() error {
		var err error
		if c, err = net.Dial("tcp", to.String()); err != nil {
			return err
		}
		return ask()
	}); err != nil {
		n.t.Fatal(err)
	}
	return func() error {
		defer func() { _ = c.Close() }()
		return ask()
	}
}
