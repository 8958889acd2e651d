//go:build netns

package peers

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/test/netlab"
)

// asNode in the environment has this program be the daemon of a node, as a
// process belongs to one namespace, and a test to many.
const asNode = "SIGNPOST_TEST_NODE"

// nodeConfig is the value of asNode.
type nodeConfig struct {
	Name  string
	Addrs map[string]netip.Addr
}

// report is what the daemon of a node prints, time and again: what it hears of
// each other node, and what those who are asked say of it.
type report struct {
	Opinions map[string]Opinion
	About    map[string]map[string]Opinion
}

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(asNode); ok {
		if err := beNode(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beNode(text string) error {
	var c nodeConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	roster := &Roster{Addrs: c.Addrs}
	p, err := New(Options{
		NodeName: c.Name, Port: DefaultPort,
		Listen:     func() []netip.Addr { return []netip.Addr{c.Addrs[c.Name]} },
		Nodes:      func() *Roster { return roster },
		Watermark:  func() uint64 { return 1 },
		Finding:    func([16]byte) Finding { return Finding{} },
		Registerer: prometheus.NewRegistry(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	out := json.NewEncoder(os.Stdout)
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(100 * time.Millisecond):
		}
		r := report{Opinions: p.Opinions(), About: map[string]map[string]Opinion{}}
		for name := range r.Opinions {
			r.About[name] = p.About(ctx, name)
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// rig is three nodes, each a namespace, with a router between them.
type rig struct {
	*testing.T
	lab   *netlab.Lab
	addrs map[string]netip.Addr
	nodes map[string]*rigNode
}

type rigNode struct {
	stop func()
	mu   sync.Mutex
	last report
}

func newRig(t *testing.T) *rig {
	lab, err := netlab.New("a", "b", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{t, lab, map[string]netip.Addr{}, map[string]*rigNode{}}
	for _, p := range lab.Pods {
		r.addrs[p.Name] = p.Addrs[0]
	}
	for _, p := range lab.Pods {
		r.start(p)
	}
	return r
}

func (r *rig) start(in *netlab.Namespace) {
	r.Helper()
	text, err := json.Marshal(nodeConfig{in.Name, r.addrs})
	if err != nil {
		r.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asNode+"="+string(text))
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := in.Do(cmd.Start); err != nil {
		r.Fatal(err)
	}
	n := &rigNode{}
	var wg sync.WaitGroup
	wg.Go(func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var got report
			if json.Unmarshal(lines.Bytes(), &got) == nil {
				n.mu.Lock()
				n.last = got
				n.mu.Unlock()
			}
		}
	})
	n.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		wg.Wait()
		if err := cmd.Wait(); err != nil {
			r.Errorf("daemon of %s: %v", in.Name, err)
		}
	})
	r.Cleanup(n.stop)
	r.nodes[in.Name] = n
}

// hears returns what a node hears of another.
func (r *rig) hears(node, of string) Opinion {
	return r.nodes[node].read().Opinions[of]
}

// isTold returns what a node is told of another by a third.
func (r *rig) isTold(node, of, by string) Opinion {
	return r.nodes[node].read().About[of][by]
}

func (n *rigNode) read() report {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// within waits until ok, and returns how long that took.
func (r *rig) within(what string, ok func() bool) time.Duration {
	r.Helper()
	const limit = 15 * time.Second
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit {
			r.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(began)
	r.Logf("%5d ms until %s", took.Milliseconds(), what)
	return took
}

// stays holds that something is so for a while.
func (r *rig) stays(d time.Duration, what string, ok func() bool) {
	r.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(20 * time.Millisecond) {
		if !ok() {
			r.Fatalf("after %v it is not so any more: %s", time.Since(began).Round(time.Millisecond), what)
		}
	}
}

// router runs a command where all packets come by.
func (r *rig) router(name string, args ...string) {
	r.Helper()
	if _, err := r.lab.Node.Command(r.Context(), "", name, args...); err != nil {
		r.Fatal(err)
	}
}

// TestDeathAndPartition takes a node's link, its daemon, and the way between two
// nodes away.
func TestDeathAndPartition(t *testing.T) {
	r := newRig(t)
	is := func(node, of string, s State) bool { return r.hears(node, of).State == s }
	told := func(node, of, by string, s State) bool { return r.isTold(node, of, by).State == s }
	all := func() bool {
		for _, x := range []string{"a", "b", "c"} {
			for _, y := range []string{"a", "b", "c"} {
				if x != y && !is(x, y, Alive) {
					return false
				}
			}
		}
		return true
	}
	r.within("all hear each other", all)

	t.Log("c's link goes down, as if its machine were off")
	r.router("ip", "link", "set", "pod3", "down")
	took := r.within("a and b have heard nothing of c for 3 s, and tell each other", func() bool {
		return r.hears("a", "c").Silence >= 3*time.Second && r.isTold("a", "c", "b").Silence >= 3*time.Second
	})
	if took < 2*time.Second {
		t.Errorf("3 s of silence after %v", took)
	}
	if !is("a", "b", Alive) || !is("b", "a", Alive) {
		t.Error("a and b do not hear each other")
	}
	r.router("ip", "link", "set", "pod3", "up")
	r.router("ip", "route", "replace", r.addrs["c"].String(), "dev", "pod3")
	r.within("all hear each other again", all)

	t.Log("c's daemon ends: its kernel says so, and that is a sign of life")
	r.nodes["c"].stop()
	r.stays(5*time.Second, "c is alive", func() bool { return is("a", "c", Alive) && is("b", "c", Alive) })

	t.Log("then c's link goes down: no daemon, no kernel")
	r.router("ip", "link", "set", "pod3", "down")
	r.within("c is silent", func() bool { return is("a", "c", Silent) && is("b", "c", Silent) })
	r.router("ip", "link", "set", "pod3", "up")
	r.router("ip", "route", "replace", r.addrs["c"].String(), "dev", "pod3")
	r.start(r.lab.Pod("c"))
	r.within("all hear each other again", all)

	t.Log("a and b are cut off from each other, and c hears both")
	for _, ends := range [][2]string{{"a", "b"}, {"b", "a"}} {
		r.router("iptables", "-A", "FORWARD", "-s", r.addrs[ends[0]].String(), "-d", r.addrs[ends[1]].String(), "-j", "DROP")
	}
	r.within("a and b are silent for each other, and c contradicts", func() bool {
		return r.hears("a", "b").Silence >= 3*time.Second && told("a", "b", "c", Alive) &&
			r.hears("b", "a").Silence >= 3*time.Second && told("b", "a", "c", Alive)
	})
	r.router("iptables", "-F", "FORWARD")
	r.within("all hear each other again", all)
}

// TestFirewall: a port that is dropped from the beginning is not silence.
func TestFirewall(t *testing.T) {
	lab, err := netlab.New("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := &rig{t, lab, map[string]netip.Addr{}, map[string]*rigNode{}}
	r.router("iptables", "-A", "FORWARD", "-p", "udp", "--dport", fmt.Sprint(DefaultPort), "-j", "DROP")
	for _, p := range lab.Pods {
		r.addrs[p.Name] = p.Addrs[0]
	}
	for _, p := range lab.Pods {
		r.start(p)
		defer r.nodes[p.Name].stop()
	}
	r.within("both work", func() bool {
		_, a := r.nodes["a"].read().Opinions["b"]
		_, b := r.nodes["b"].read().Opinions["a"]
		return a && b
	})
	r.stays(5*time.Second, "they know nothing of each other", func() bool {
		return r.hears("a", "b").State == Unknown && r.hears("b", "a").State == Unknown
	})
}
