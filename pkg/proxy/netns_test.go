//go:build netns

package proxy_test

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/test/netlab"
)

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

// TestRealRefusals holds that each of many connections is refused at once. The
// kernel limits the ICMP messages to one host to one a second, once it has sent
// some; whoever is refused by one of these waits for its time-out then.
func TestRealRefusals(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.start()
		svc := n.dual(1, 30081)
		n.publish(svc)
		for family := range 2 {
			for _, to := range []netip.AddrPort{vip(svc, family), netip.AddrPortFrom(n.Node.Addrs[family], 30081)} {
				for range 20 {
					if n.nobody(n.Outside, "tcp", to); t.Failed() {
						return
					}
				}
			}
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

// TestRealLocalListener checks the flip: while the node listens on the address of
// the Service, it answers, untracked; when it stops, the same client, from the same port,
// gets an answer from an endpoint; and back.
func TestRealLocalListener(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"))
		n.start()
		svc := n.dual(10, 0, "a")
		at := []netip.AddrPort{vip(svc, 0), vip(svc, 1)}
		n.source.listenAt(at...)
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
