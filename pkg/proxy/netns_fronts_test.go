//go:build netns

package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/test/netlab"
)

// The addresses from outside in both families.
var (
	externalIPs = []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")}
	balancerIPs = []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("2001:db8::2")}
)

// exposed returns a Service with every kind of front end. a is a pod of this node, b and
// c are of another.
func (n *field) exposed(change func(*model.Service)) *model.Service {
	svc := n.dual(1, 30080, "a", "b", "c")
	svc.ExternalIPs, svc.LoadBalancerIPs = externalIPs, balancerIPs
	for g := range svc.Groups {
		for e := 1; e < 3; e++ {
			svc.Groups[g].Endpoints[e].Node = "there"
		}
	}
	if change != nil {
		change(svc)
	}
	return svc
}

// eachEndpoint changes the endpoints of a Service; i is 0, 1, 2 for a, b, c.
func eachEndpoint(svc *model.Service, change func(i int, e *model.Endpoint)) {
	for g := range svc.Groups {
		for i := range svc.Groups[g].Endpoints {
			change(i, &svc.Groups[g].Endpoints[i])
		}
	}
}

// asking is what becomes of those who ask: the names of who answers, or one of refused
// and dropped.
const (
	refused = "refused"
	dropped = "dropped"
)

// ask returns what becomes of connections: who answers, sorted, and whether the one who
// answered last saw the node instead of the client. It asks so often that none of three is missed.
func (n *field) ask(from *netlab.Namespace, network string, to netip.AddrPort) (string, bool) {
	n.t.Helper()
	names := map[string]bool{}
	node := false
	for range 40 {
		ctx, cancel := context.WithTimeout(n.t.Context(), 300*time.Millisecond)
		got, err := from.Dial(ctx, network, to)
		cancel()
		switch {
		case err == nil:
			names[got.Name] = true
			node = !slices.Contains(from.Addrs, got.Seen.Addr()) || from == n.Node
		case errors.Is(err, syscall.ECONNREFUSED):
			return refused, false
		case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EPERM):
			return dropped, false
		default:
			n.t.Errorf("%v", err)
			return err.Error(), false
		}
	}
	var out []string
	for name := range names {
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, ","), node
}

// TestRealFrontEnds is the table of who gets what, with real packets over both
// programs, in both families.
func TestRealFrontEnds(t *testing.T) {
	type want struct {
		from, to, who string
		node          bool // seen as the node
	}
	local := func(s *model.Service) { s.ExternalLocal = true }
	away := func(s *model.Service) { // the node's own pod has gone
		eachEndpoint(s, func(i int, e *model.Endpoint) { e.Ready, e.Serving = i > 0, i > 0 })
	}
	both := func(changes ...func(*model.Service)) func(*model.Service) {
		return func(s *model.Service) {
			for _, c := range changes {
				c(s)
			}
		}
	}
	limited := func(s *model.Service) {
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:ffff::/48")}
		s.SourceRanges = append(s.SourceRanges, n4n6...)
	}
	for _, tt := range []struct {
		name   string
		change func(*model.Service)
		want   []want
	}{
		{"policy Cluster", nil, []want{
			{"outside", "externalIP", "a,b,c", true}, {"client", "externalIP", "a,b,c", true}, {"node", "externalIP", "a,b,c", true},
			{"outside", "balancer", "a,b,c", true}, {"client", "balancer", "a,b,c", true}, {"node", "balancer", "a,b,c", true},
			{"outside", "nodePort", "a,b,c", true}, {"client", "nodePort", "a,b,c", true},
		}},
		{"external policy Local", local, []want{
			{"outside", "externalIP", "a", false}, {"outside", "balancer", "a", false}, {"outside", "nodePort", "a", false},
			{"client", "balancer", "a,b,c", false}, {"client", "nodePort", "a,b,c", false}, {"node", "balancer", "a,b,c", true},
			{"client", "clusterIP", "a,b,c", false}, {"outside", "clusterIP", "a,b,c", true},
		}},
		{"external policy Local, no local endpoint", both(local, away), []want{
			{"outside", "externalIP", dropped, false}, {"outside", "balancer", dropped, false}, {"outside", "nodePort", dropped, false},
			{"client", "balancer", "b,c", false}, {"node", "externalIP", "b,c", true}, {"client", "clusterIP", "b,c", false},
		}},
		{"external policy Local, a local endpoint that terminates", both(local, func(s *model.Service) {
			eachEndpoint(s, func(i int, e *model.Endpoint) {
				if i == 0 {
					e.Ready, e.Terminating = false, true
				}
			})
		}), []want{{"outside", "balancer", "a", false}, {"client", "balancer", "b,c", false}, {"client", "clusterIP", "b,c", false}}},
		{"internal policy Local", func(s *model.Service) { s.InternalLocal = true }, []want{
			{"client", "clusterIP", "a", false}, {"outside", "clusterIP", "a", true}, {"outside", "balancer", "a,b,c", true},
		}},
		{"internal policy Local, no local endpoint", both(away, func(s *model.Service) { s.InternalLocal = true }), []want{
			{"client", "clusterIP", dropped, false}, {"outside", "balancer", "b,c", true},
		}},
		{"no endpoints", func(s *model.Service) {
			eachEndpoint(s, func(_ int, e *model.Endpoint) { e.Ready, e.Serving = false, false })
		}, []want{
			{"outside", "externalIP", refused, false}, {"outside", "balancer", refused, false}, {"outside", "nodePort", refused, false},
			{"client", "clusterIP", refused, false}, {"client", "balancer", refused, false},
		}},
		{"source ranges that name outside", limited, []want{
			{"outside", "balancer", "a,b,c", true}, {"client", "balancer", dropped, false},
			{"client", "externalIP", "a,b,c", true}, {"client", "nodePort", "a,b,c", true},
		}},
		{"source ranges and policy Local", both(limited, local), []want{
			{"outside", "balancer", "a", false}, {"client", "balancer", dropped, false}, {"client", "nodePort", "a,b,c", false},
		}},
		{"endpoints meant for this node", func(s *model.Service) {
			eachEndpoint(s, func(i int, e *model.Endpoint) {
				e.Hints = &model.Hints{Nodes: []string{[]string{"here", "there", "there"}[i]}}
			})
		}, []want{{"client", "clusterIP", "a", false}, {"outside", "balancer", "a", true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, n *field) {
				n.serve(n.Pod("a"), n.Pod("b"), n.Pod("c"))
				n.start()
				n.publish(n.exposed(tt.change))
				for family := range 2 {
					places := map[string]*netlab.Namespace{"outside": n.Outside, "client": n.Pod("client"), "node": n.Node}
					fronts := map[string]netip.AddrPort{
						"clusterIP": vip(n.exposed(nil), family), "externalIP": netip.AddrPortFrom(externalIPs[family], 80),
						"balancer": netip.AddrPortFrom(balancerIPs[family], 80), "nodePort": netip.AddrPortFrom(n.Node.Addrs[family], 30080),
					}
					for i, w := range tt.want {
						network := []string{"tcp", "udp"}[(i+family)%2]
						who, node := n.ask(places[w.from], network, fronts[w.to])
						if who != w.who || node != w.node {
							t.Errorf("%s, %s to %s: %s, seen as the node %t; want %s, %t", network, w.from, fronts[w.to], who, node, w.who, w.node)
						}
					}
				}
			})
		})
	}
}

// n4n6 are the ranges that outside is in, and the node is not.
var n4n6 = []netip.Prefix{netip.MustParsePrefix("192.168.1.20/32"), netip.MustParsePrefix("fd01::20/128")}

// TestRealAffinity checks that clients keep their endpoint: more of them than the module
// recent can remember, over front ends, a change of other endpoints and a restart; and only as long as
// they should.
func TestRealAffinity(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		const clients = 150
		at := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("10.0.77.%d", i+1)) }
		for i := range clients {
			if err := n.Outside.AddAddr(at(i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := n.Node.Command(t.Context(), "", "ip", "route", "add", "10.0.77.0/24", "dev", "outside"); err != nil {
			t.Fatal(err)
		}
		n.serve(n.Pod("a"), n.Pod("b"), n.Pod("c"))
		n.start()
		sticky := func(seconds time.Duration, pods ...string) *model.Service {
			svc := n.dual(1, 30080, pods...)
			svc.AffinityTimeout = seconds * time.Second
			svc.ExternalIPs = externalIPs
			return svc
		}
		n.publish(sticky(60, "a", "b"))
		who := func(i int, to netip.AddrPort) string {
			got, err := n.Outside.DialFrom(t.Context(), "tcp", netip.AddrPortFrom(at(i), 0), to)
			if err != nil {
				t.Fatal(err)
			}
			return got.Name
		}
		first := map[string]int{}
		var kept []string
		for i := range clients {
			kept = append(kept, who(i, vip(sticky(60), 0)))
			first[kept[i]]++
		}
		if first["a"] < clients/4 || first["b"] < clients/4 {
			t.Errorf("%v: the clients are not spread", first)
		}
		check := func(when string, to netip.AddrPort) {
			t.Helper()
			for i := range clients {
				if got := who(i, to); got != kept[i] {
					t.Fatalf("%s: client %d goes to %s and was at %s", when, i, got, kept[i])
				}
			}
		}
		check("again", vip(sticky(60), 0))
		check("external IP", netip.AddrPortFrom(externalIPs[0], 80))
		n.publish(sticky(60, "a", "c", "b"))
		check("another endpoint comes", vip(sticky(60), 0))
		n.stop()
		n.start()
		n.publish(sticky(60, "a", "b"))
		check("restarted, and it goes", vip(sticky(60), 0))
		n.publish(sticky(1, "a", "b"))
		check("a shorter time-out", vip(sticky(60), 0)) // this call counts
		time.Sleep(2100 * time.Millisecond)
		moved := 0
		for i := range clients {
			if who(i, vip(sticky(60), 0)) != kept[i] {
				moved++
			}
		}
		if moved < clients/4 {
			t.Errorf("%d of %d clients choose again after the time-out", moved, clients)
		}
		n.publish(gone(1))
		n.until("the sets go with the Service", func() bool {
			sets, err := n.Node.Command(t.Context(), "", "ipset", "list", "-n")
			return err == nil && !strings.Contains(sets, "SIGNPOST")
		})
	})
}

// TestRealLocalhostIsGuardedFirst holds that the kernel routes 127.0.0.0/8 only when the
// rules are in that keep neighbours from it.
func TestRealLocalhostIsGuardedFirst(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		const file = "/proc/sys/net/ipv4/conf/all/route_localnet"
		routes := func() string {
			out, err := n.Node.Command(t.Context(), "", "cat", file)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(out)
		}
		n.start() // without a Snapshot yet
		time.Sleep(200 * time.Millisecond)
		if got := routes(); got != "0" {
			t.Errorf("without rules: route_localnet is %s", got)
		}
		n.source.publish(n.dual(1, 30080, "a"))
		n.until("localhost is routed", func() bool { return routes() == "1" })
		if s := n.save(); !strings.Contains(s, "-A INPUT -j SIGNPOST-FIREWALL") || !strings.Contains(s, "-A SIGNPOST-FIREWALL") {
			t.Errorf("localhost is routed and not guarded:\n%s", s)
		}
	})
}
