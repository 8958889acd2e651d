//go:build netns

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy"
	"github.com/signpost-dev/signpost/test/netlab"
)

// field is a Proxy that runs in the node of a lab, with the real programs.
type field struct {
	*netlab.Lab
	t       *testing.T
	backend string
	source  *source
	events  *warnings
	proxy   *proxy.Proxy
	stop    func()
}

// eachBackend runs f with both sets of programs. Tests fail, and do not skip,
// where one is missing.
func eachBackend(t *testing.T, f func(t *testing.T, n *field)) {
	t.Helper()
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			lab, err := netlab.New("client", "a", "b", "c")
			if err != nil {
				t.Fatal(err)
			}
			n := &field{Lab: lab, t: t, backend: backend, source: &source{}, events: &warnings{}}
			t.Cleanup(func() {
				if n.stop != nil {
					n.stop()
				}
				if t.Failed() {
					t.Logf("rules:\n%s", n.save())
				}
				if err := lab.Close(); err != nil {
					t.Error(err)
				}
			})
			f(t, n)
		})
	}
}

// start runs a Proxy in the node until stop.
func (n *field) start() {
	n.t.Helper()
	p, err := proxy.New(proxy.Options{
		Config: proxy.Config{
			Backend: n.backend, MasqueradeBit: 14, LocalhostNodePorts: true, SyncPeriod: time.Second,
			ClusterCIDRs: netlab.PodCIDRs(),
		},
		Snapshots: n.source, Events: n.events, Log: slog.New(slog.NewTextHandler(n.t.Output(), nil)),
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Node.DoAlone(func() error { return p.Run(ctx) }) }()
	n.proxy = p
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("Run: %v", err)
		}
	})
}

// publish publishes services and waits until the rules are in.
func (n *field) publish(services ...*model.Service) {
	n.t.Helper()
	n.source.publish(services...)
	n.settle()
}

func (n *field) settle() {
	n.t.Helper()
	want := n.source.Snapshot().Generation
	n.until("rules are in", func() bool { return n.proxy.Programmed() >= want })
}

func (n *field) until(what string, done func() bool) {
	n.t.Helper()
	for end := time.Now().Add(15 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("waited 15s in vain: %s", what)
		}
	}
}

func (n *field) save() string {
	v4, err := n.Node.Command(context.Background(), "", "iptables-"+n.backend+"-save")
	if err != nil {
		return err.Error()
	}
	v6, err := n.Node.Command(context.Background(), "", "ip6tables-"+n.backend+"-save")
	if err != nil {
		return err.Error()
	}
	return v4 + v6
}

// serve starts servers in pods a, b, c and the like, at port 8080 of all their addresses.
func (n *field) serve(where ...*netlab.Namespace) {
	n.t.Helper()
	for _, ns := range where {
		for _, a := range ns.Addrs {
			for _, network := range []string{"tcp", "udp"} {
				n.serveAt(ns, network, netip.AddrPortFrom(a, 8080))
			}
		}
	}
}

func (n *field) serveAt(ns *netlab.Namespace, network string, at netip.AddrPort) *netlab.Server {
	n.t.Helper()
	s, err := ns.Serve(network, at)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = s.Close() })
	return s
}

// dual returns a Service with both families and both protocols at 10.96.0.<i> and
// fd00:10:96::<i>, with the pods of these names behind it.
func (n *field) dual(i int, nodePort uint16, pods ...string) *model.Service {
	svc := &model.Service{
		Name: model.Name{Namespace: "default", Name: fmt.Sprint("s", i)},
		ClusterIPs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 96, 0, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", i)),
		},
	}
	for _, p := range []model.Protocol{model.TCP, model.UDP} {
		svc.Ports = append(svc.Ports, model.ServicePort{Name: strings.ToLower(string(p)), Protocol: p, Port: 80, NodePort: nodePort})
	}
	for family := range 2 {
		group := model.EndpointGroup{Ports: []model.EndpointPort{{Name: "tcp", Protocol: model.TCP, Port: 8080}, {Name: "udp", Protocol: model.UDP, Port: 8080}}}
		for _, p := range pods {
			group.Endpoints = append(group.Endpoints, model.Endpoint{Addr: n.Pod(p).Addrs[family], Ready: true, Serving: true, Node: "here"})
		}
		svc.Groups = append(svc.Groups, group)
	}
	return svc
}

func vip(svc *model.Service, family int) netip.AddrPort {
	return netip.AddrPortFrom(svc.ClusterIPs[family], 80)
}

// who returns who answers, having asked as often as given.
func (n *field) who(from *netlab.Namespace, network string, to netip.AddrPort, times int) map[string]int {
	n.t.Helper()
	out := map[string]int{}
	for range times {
		got, err := from.Dial(n.t.Context(), network, to)
		if err != nil {
			n.t.Errorf("%v", err)
			continue
		}
		out[got.Name]++
	}
	return out
}

// nobody checks that a connection is refused at once. To a process of the node
// itself the kernel says already when it sends that it must not, which for UDP
// is another error.
func (n *field) nobody(from *netlab.Namespace, network string, to netip.AddrPort) {
	n.t.Helper()
	got, err := from.Dial(n.t.Context(), network, to)
	if from == n.Node && network == "udp" && errors.Is(err, syscall.EPERM) {
		return
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		n.t.Errorf("%s from %s to %s: got %+v, %v, want connection refused", network, from.Name, to, got, err)
	}
}

// TestRealClusterIP walks one Service through its life, from pods, from the node and from
// outside, in both families and protocols.
func TestRealClusterIP(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"), n.Pod("b"), n.Pod("c"))
		n.start()
		n.publish(n.dual(1, 0), n.dual(2, 0, "a"))
		svc := n.dual(1, 0)
		places := []*netlab.Namespace{n.Pod("client"), n.Node, n.Outside}
		all := func(check func(from *netlab.Namespace, network string, to netip.AddrPort)) {
			for _, from := range places {
				for _, network := range []string{"tcp", "udp"} {
					for family := range 2 {
						check(from, network, vip(svc, family))
					}
				}
			}
		}
		all(n.nobody)
		n.publish(n.dual(1, 0, "a", "b", "c"))
		all(func(from *netlab.Namespace, network string, to netip.AddrPort) {
			if got := n.who(from, network, to, 30); len(got) != 3 {
				t.Errorf("%s from %s to %s: %v answered, want a, b and c", network, from.Name, to, got)
			}
		})
		n.publish(n.dual(1, 0, "b"))
		all(func(from *netlab.Namespace, network string, to netip.AddrPort) {
			if got := n.who(from, network, to, 5); got["b"] != 5 {
				t.Errorf("%s from %s to %s: %v answered, want b", network, from.Name, to, got)
			}
		})
		n.publish(n.dual(1, 0))
		all(n.nobody)
		n.publish(n.dual(1, 0, "a"), gone(1))
		if s := n.save(); strings.Contains(s, "10.96.0.1/32") || strings.Contains(s, "fd00:10:96::1/128") || !strings.Contains(s, "10.96.0.2/32") {
			t.Errorf("the rules of a deleted Service stay, or others went:\n%s", s)
		}
	})
}

// TestRealSources checks who the server sees: the client itself from a pod, the node when the
// client is off the cluster or the pod itself.
func TestRealSources(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"))
		n.start()
		svc := n.dual(1, 30080, "a")
		n.publish(svc)
		for family := range 2 {
			podsSide := []netip.Addr{netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::1:1"), n.Node.Addrs[family]}
			for _, tt := range []struct {
				what string
				from *netlab.Namespace
				to   netip.AddrPort
				node bool
			}{
				{"pod to cluster IP", n.Pod("client"), vip(svc, family), false},
				{"pod to itself", n.Pod("a"), vip(svc, family), true},
				{"outside to cluster IP", n.Outside, vip(svc, family), true},
				{"node to cluster IP", n.Node, vip(svc, family), true},
				{"outside to node port", n.Outside, netip.AddrPortFrom(n.Node.Addrs[family], 30080), true},
				{"pod to node port", n.Pod("client"), netip.AddrPortFrom(n.Node.Addrs[family], 30080), true},
				{"pod to its own node port", n.Pod("a"), netip.AddrPortFrom(n.Node.Addrs[family], 30080), true},
			} {
				for _, network := range []string{"tcp", "udp"} {
					got, err := tt.from.Dial(t.Context(), network, tt.to)
					if err != nil {
						t.Errorf("%s: %v", tt.what, err)
						continue
					}
					if isNode := slices.Contains(podsSide, got.Seen.Addr()); got.Name != "a" || isNode != tt.node {
						t.Errorf("%s, %s: %s saw %s; is it the node: want %t", tt.what, network, got.Name, got.Seen, tt.node)
					}
				}
			}
		}
	})
}

// TestRealNodePort checks NodePorts with and without endpoints, and at localhost.
func TestRealNodePort(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"), n.Pod("b"))
		n.start()
		n.publish(n.dual(1, 30080, "a", "b"), n.dual(2, 30081))
		for family := range 2 {
			for _, network := range []string{"tcp", "udp"} {
				for _, from := range []*netlab.Namespace{n.Outside, n.Pod("client"), n.Node} {
					if got := n.who(from, network, netip.AddrPortFrom(n.Node.Addrs[family], 30080), 20); len(got) != 2 {
						t.Errorf("%s from %s: %v answered, want a and b", network, from.Name, got)
					}
					n.nobody(from, network, netip.AddrPortFrom(n.Node.Addrs[family], 30081))
				}
			}
		}
		if got := n.who(n.Node, "tcp", netip.MustParseAddrPort("127.0.0.1:30080"), 20); len(got) != 2 {
			t.Errorf("at 127.0.0.1: %v answered, want a and b", got)
		}
		// A Service may have an endpoint on the node itself whose port is the node port.
		n.serveAt(n.Node, "tcp", netip.AddrPortFrom(n.Node.Addrs[0], 30090))
		host := n.dual(3, 30090)
		host.Groups[0].Ports[0].Port = 30090
		host.Groups[0].Endpoints = []model.Endpoint{{Addr: n.Node.Addrs[0], Ready: true, Serving: true, Node: "here"}}
		n.publish(host)
		if got := n.who(n.Outside, "tcp", netip.AddrPortFrom(n.Node.Addrs[0], 30090), 2); got["node"] != 2 {
			t.Errorf("endpoint on the node with the number of the node port: %v answered", got)
		}
	})
}

// TestRealRestart checks that a Proxy that starts over existing rules loses no
// connection, removes what is not wanted any more and adds what is.
func TestRealRestart(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"), n.Pod("b"))
		n.start()
		svc := n.dual(1, 0, "a")
		n.publish(svc, n.dual(2, 0, "b"))
		ctx, cancel := context.WithCancel(t.Context())
		asked, failed := 0, make(chan int)
		go func() {
			bad := 0
			for ctx.Err() == nil {
				asked++
				if got, err := n.Pod("client").Dial(t.Context(), "tcp", vip(svc, 0)); err != nil || got.Name != "a" {
					bad++
				}
			}
			failed <- bad
		}()
		for range 5 {
			n.stop()
			n.start()
			n.settle()
		}
		n.stop()
		n.source.publish(gone(2), n.dual(3, 0, "b"))
		n.start()
		n.settle()
		cancel()
		if bad := <-failed; bad > 0 || asked < 20 {
			t.Errorf("%d of %d connections were lost in restarts", bad, asked)
		}
		if got := n.who(n.Pod("client"), "tcp", vip(n.dual(3, 0), 0), 2); got["b"] != 2 {
			t.Errorf("new Service: %v", got)
		}
		if s := n.save(); strings.Contains(s, "10.96.0.2/32") || strings.Count(s, "-A PREROUTING -j SIGNPOST-SERVICES") != 2 {
			t.Errorf("after restarts:\n%s", s)
		}
	})
}

// TestRealOneBadService puts a program in front of iptables-restore that refuses
// what mentions an address, as a kernel without some match would.
func TestRealOneBadService(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		real, err := exec.LookPath("iptables-" + backend + "-restore")
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		wrapper := "#!/bin/sh\nin=$(mktemp)\ntrap 'rm -f $in' EXIT\ncat >$in\n" +
			"if line=$(grep -n 'default/s6:' $in); then echo \"iptables-restore: line ${line%%:*} failed\" >&2; exit 1; fi\n" +
			real + " \"$@\" <$in\n"
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(real)), []byte(wrapper), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	}
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"), n.Pod("b"))
		n.start()
		n.publish(n.dual(1, 0, "a"), n.dual(6, 0, "a"), n.dual(7, 0, "a"))
		n.publish(n.dual(1, 0, "b"), n.dual(8, 0, "b"), gone(7))
		for i, want := range map[int]string{1: "b", 8: "b"} {
			if got := n.who(n.Pod("client"), "tcp", vip(n.dual(i, 0), 0), 2); got[want] != 2 {
				t.Errorf("s%d: %v answered, want %s", i, got, want)
			}
		}
		// IPv6 has the real program.
		if got := n.who(n.Pod("client"), "tcp", vip(n.dual(6, 0), 1), 2); got["a"] != 2 {
			t.Errorf("s6 by IPv6: %v answered, want a", got)
		}
		n.events.mu.Lock()
		defer n.events.mu.Unlock()
		if want := []string{"default/s6 " + proxy.ReasonRefused}; !slices.Equal(n.events.list, want) {
			t.Errorf("events %v, want %v", n.events.list, want)
		}
	})
}

// TestRealLocalListener checks the flip: while the node listens on the address of
// the Service, it answers, untracked; when it stops, the same client, from the same port,
// gets an answer from an endpoint; and back.
func TestRealLocalListener(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"))
		n.start()
		svc := n.dual(10, 0, "a")
		at := []netip.AddrPort{vip(svc, 0), vip(svc, 1)}
		n.proxy.SetLocalListeners(at)
		n.publish(svc)
		n.until("listener rules are in", func() bool { return strings.Count(n.save(), "-m socket") == 4 })
		for _, a := range svc.ClusterIPs {
			if err := n.Node.AddAddr(a); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			var up []*netlab.Server
			for _, a := range at {
				up = append(up, n.serveAt(n.Node, "udp", a), n.serveAt(n.Node, "tcp", a))
			}
			for family, a := range at {
				from := netip.AddrPortFrom(n.Pod("client").Addrs[family], 5353)
				n.answers("udp", from, a, "node")
				n.answers("tcp", netip.AddrPort{}, a, "node")
			}
			for _, s := range up {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			for family, a := range at {
				from := netip.AddrPortFrom(n.Pod("client").Addrs[family], 5353)
				n.answers("udp", from, a, "a")
				n.answers("tcp", netip.AddrPort{}, a, "a")
			}
		}
		out, err := n.Node.Command(t.Context(), "", "conntrack", "-L", "-p", "udp", "--orig-dst", "10.96.0.10")
		if err != nil || !strings.Contains(out, "src=10.0.1.2") {
			t.Errorf("the client's connection is with pod a: %v\n%s", err, out)
		}
	})
}

func (n *field) answers(network string, from, to netip.AddrPort, want string) {
	n.t.Helper()
	got, err := n.Pod("client").DialFrom(n.t.Context(), network, from, to)
	if err != nil || got.Name != want {
		n.t.Errorf("%s to %s: got %+v, %v, want %s", network, to, got, err, want)
	}
}

// TestRealRepairAndCleanup damages the rules in several ways, sees them come
// back, and at the end removes them and nothing else.
func TestRealRepairAndCleanup(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"))
		tool := "iptables-" + n.backend
		run := func(args ...string) {
			t.Helper()
			if _, err := n.Node.Command(t.Context(), "", tool, args...); err != nil {
				t.Fatal(err)
			}
		}
		run("-A", "FORWARD", "-s", "203.0.113.7", "-j", "DROP")
		n.start()
		svc := n.dual(1, 0, "a")
		n.publish(svc)
		for _, damage := range [][]string{
			{"-t", "nat", "-F"}, {"-t", "nat", "-D", "PREROUTING", "-j", "SIGNPOST-SERVICES"}, {"-t", "nat", "-F", "SIGNPOST-SERVICES"},
		} {
			run(damage...)
			n.until(strings.Join(damage, " ")+" is mended", func() bool {
				got, err := n.Pod("client").Dial(t.Context(), "tcp", vip(svc, 0))
				return err == nil && got.Name == "a"
			})
		}
		n.stop()
		if err := n.Node.DoAlone(func() error { return proxy.Cleanup(t.Context(), slog.New(slog.DiscardHandler)) }); err != nil {
			t.Fatal(err)
		}
		if s := n.save(); strings.Contains(s, "SIGNPOST") || !strings.Contains(s, "203.0.113.7") {
			t.Errorf("after cleanup:\n%s", s)
		}
	})
}

// TestRealSCTP follows the first packet of an association to the pod, by cluster
// IP and by node port.
func TestRealSCTP(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.start()
		svc := n.dual(1, 30080, "a")
		svc.Ports = []model.ServicePort{{Name: "sctp", Protocol: model.SCTP, Port: 80, NodePort: 30080}}
		for family := range 2 {
			svc.Groups[family].Ports = []model.EndpointPort{{Name: "sctp", Protocol: model.SCTP, Port: 8080}}
		}
		n.publish(svc)
		for family := range 2 {
			w, err := n.Pod("a").WatchSCTP(n.Pod("a").Addrs[family])
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = w.Close() }()
			for i, to := range []netip.AddrPort{vip(svc, family), netip.AddrPortFrom(n.Node.Addrs[family], 30080)} {
				for k, from := range []*netlab.Namespace{n.Pod("client"), n.Outside, n.Node} {
					if err := from.SendSCTP(uint16(4000+10*i+k), to); err != nil {
						t.Error(err)
						continue
					}
					if _, port, err := w.Next(2 * time.Second); err != nil || port != 8080 {
						t.Errorf("from %s to %s: arrives at port %d, %v", from.Name, to, port, err)
					}
				}
			}
			if err := n.Pod("client").SendSCTP(4100, netip.AddrPortFrom(svc.ClusterIPs[family], 81)); err != nil {
				t.Error(err)
			}
			if _, port, err := w.Next(100 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a port that is none of the Service's arrives at %d, %v", port, err)
			}
		}
	})
}
