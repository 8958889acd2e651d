package render_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// The node that all tests here are about.
func node() model.Node {
	return model.Node{
		Name:     "here",
		Addrs:    []netip.Addr{addr("192.168.1.10"), addr("fd01::10")},
		PodCIDRs: []netip.Prefix{prefix("10.0.1.0/24"), prefix("fd02:0:0:1::/64")},
	}
}

func config() render.Config {
	return render.Config{
		ClusterCIDRs:       []netip.Prefix{prefix("10.0.0.0/16"), prefix("fd02::/48")},
		MasqueradeBit:      14,
		LocalhostNodePorts: true,
		Kernel:             render.FullKernel(),
	}
}

func addr(s string) netip.Addr         { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix     { return netip.MustParsePrefix(s) }
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// service returns a Service default/NAME with one port 80 → 8080, and endpoints that are ready.
func service(name, vip string, endpoints ...string) *model.Service {
	svc := &model.Service{
		Name:  model.Name{Namespace: "default", Name: name},
		Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
	}
	for v := range strings.SplitSeq(vip, ",") {
		svc.ClusterIPs = append(svc.ClusterIPs, addr(v))
	}
	group := model.EndpointGroup{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}}}
	for _, e := range endpoints {
		a := addr(e)
		ep := model.Endpoint{Addr: a, Ready: true, Serving: true, Node: "elsewhere"}
		for _, own := range node().PodCIDRs {
			if own.Contains(a) {
				ep.Node = "here"
			}
		}
		group.Endpoints = append(group.Endpoints, ep)
	}
	svc.Groups = []model.EndpointGroup{group}
	return svc
}

// with returns svc after change.
func with(svc *model.Service, change func(*model.Service)) *model.Service {
	change(svc)
	return svc
}

func withNodePort(svc *model.Service, port uint16) *model.Service {
	svc.Ports[0].NodePort = port
	return svc
}

func serviceMap(services ...*model.Service) model.ServiceMap {
	changes := map[model.Name]*model.Service{}
	for _, s := range services {
		changes[s.Name] = s
	}
	var m model.ServiceMap
	return m.With(changes)
}

// load renders services and loads them into a fake.
func load(t *testing.T, family ruleset.Family, cfg render.Config, services ...*model.Service) *iptablestest.Fake {
	t.Helper()
	m := serviceMap(services...)
	res := render.Render(family, cfg, node(), &m)
	fake := iptablestest.New(family)
	fake.Local = node().Addrs
	if err := fake.Load(res.Set, res.Hooks); err != nil {
		t.Fatalf("rules are refused: %v\n%s", err, ruleset.Replace(res.Set, nil).Text())
	}
	return fake
}

// A packet as the tests write it: from, source, protocol, destination.
type hop struct {
	from  iptablestest.Origin
	src   string
	proto string
	dst   string
}

func (h hop) packet() iptablestest.Packet {
	return iptablestest.Packet{From: h.from, Proto: h.proto, Src: netip.AddrPortFrom(addr(h.src), 40000), Dst: addrPort(h.dst)}
}

const (
	pod     = iptablestest.Pod
	outside = iptablestest.Outside
	host    = iptablestest.Node
)

// TestPackets says what happens to packets: the semantics of kube-proxy 1.36.
func TestPackets(t *testing.T) {
	web := func() *model.Service {
		return withNodePort(service("web", "10.96.0.10", "10.0.1.1", "10.0.2.2"), 30080)
	}
	range4 := func(c *render.Config) { c.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/16"), prefix("fd00::/108")} }
	empty := func() *model.Service { return withNodePort(service("empty", "10.96.0.11"), 30081) }
	tests := []struct {
		name     string
		cfg      func(*render.Config)
		family   ruleset.Family
		services []*model.Service
		hop      hop
		want     string
	}{
		{name: "pod to cluster IP", services: []*model.Service{web()}, hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.10:80"},
			want: "0.50 forward 10.0.1.1:8080\n0.50 forward 10.0.2.2:8080\n"},
		{name: "node to cluster IP", services: []*model.Service{web()}, hop: hop{host, "192.168.1.10", "tcp", "10.96.0.10:80"},
			want: "0.50 forward 10.0.1.1:8080 masqueraded\n0.50 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "outside to cluster IP", services: []*model.Service{web()}, hop: hop{outside, "172.16.0.1", "tcp", "10.96.0.10:80"},
			want: "0.50 forward 10.0.1.1:8080 masqueraded\n0.50 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "pod to itself", services: []*model.Service{web()}, hop: hop{pod, "10.0.1.1", "tcp", "10.96.0.10:80"},
			want: "0.50 forward 10.0.1.1:8080 masqueraded\n0.50 forward 10.0.2.2:8080\n"},
		{name: "another port of a cluster IP", services: []*model.Service{web()}, hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.10:81"},
			want: "1.00 forward 10.96.0.10:81\n"},
		{name: "another protocol", services: []*model.Service{web()}, hop: hop{pod, "10.0.1.9", "udp", "10.96.0.10:80"},
			want: "1.00 forward 10.96.0.10:80\n"},
		{name: "unknown cluster IP from outside is not masqueraded", services: []*model.Service{web()}, hop: hop{outside, "172.16.0.1", "tcp", "10.96.0.99:80"},
			want: "1.00 forward 10.96.0.99:80\n"},
		{name: "no endpoints, pod", services: []*model.Service{web(), empty()}, hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.11:80"},
			want: "1.00 reject\n"},
		{name: "no endpoints, node", services: []*model.Service{empty()}, hop: hop{host, "192.168.1.10", "tcp", "10.96.0.11:80"},
			want: "1.00 reject\n"},
		{name: "no endpoints, another port", services: []*model.Service{empty()}, hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.11:81"},
			want: "1.00 forward 10.96.0.11:81\n"},
		{name: "node port from outside", services: []*model.Service{web()}, hop: hop{outside, "172.16.0.1", "tcp", "192.168.1.10:30080"},
			want: "0.50 forward 10.0.1.1:8080 masqueraded\n0.50 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "node port from a pod", services: []*model.Service{web()}, hop: hop{pod, "10.0.1.9", "tcp", "192.168.1.10:30080"},
			want: "0.50 forward 10.0.1.1:8080 masqueraded\n0.50 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "node port at localhost", services: []*model.Service{web()}, hop: hop{host, "127.0.0.1", "tcp", "127.0.0.1:30080"},
			want: "0.50 forward 10.0.1.1:8080 masqueraded\n0.50 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "node port at localhost, switched off", cfg: func(c *render.Config) { c.LocalhostNodePorts = false },
			services: []*model.Service{web()}, hop: hop{host, "127.0.0.1", "tcp", "127.0.0.1:30080"},
			want: "1.00 deliver 127.0.0.1:30080\n"},
		{name: "a neighbour to localhost", services: []*model.Service{web()}, hop: hop{outside, "172.16.0.1", "tcp", "127.0.0.1:22"},
			want: "1.00 drop\n"},
		{name: "node port without endpoints", services: []*model.Service{empty()}, hop: hop{outside, "172.16.0.1", "tcp", "192.168.1.10:30081"},
			want: "1.00 reject\n"},
		{name: "a port of the node next to a node port", services: []*model.Service{web()}, hop: hop{outside, "172.16.0.1", "tcp", "192.168.1.10:30082"},
			want: "1.00 deliver 192.168.1.10:30082\n"},
		{name: "node port at another machine", services: []*model.Service{web()}, hop: hop{pod, "10.0.1.9", "tcp", "192.168.1.11:30080"},
			want: "1.00 forward 192.168.1.11:30080\n"},
		{name: "node port, address that is not chosen", cfg: func(c *render.Config) { c.NodePortAddresses = []netip.Prefix{prefix("172.20.0.0/16")} },
			services: []*model.Service{web()}, hop: hop{outside, "172.16.0.1", "tcp", "192.168.1.10:30080"},
			want: "1.00 deliver 192.168.1.10:30080\n"},
		{name: "node port, address that is chosen", cfg: func(c *render.Config) {
			c.NodePortAddresses = []netip.Prefix{prefix("172.20.0.0/16"), prefix("192.168.1.0/24")}
		},
			services: []*model.Service{service("x", "10.96.0.10"), web()}, hop: hop{outside, "172.16.0.1", "tcp", "192.168.1.10:30080"},
			want: "0.50 forward 10.0.1.1:8080 masqueraded\n0.50 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "endpoint on the node, with the number of the node port", services: []*model.Service{withNodePort(service("web", "10.96.0.10", "192.168.1.10"), 8080)},
			hop: hop{outside, "172.16.0.1", "tcp", "192.168.1.10:8080"}, want: "1.00 deliver 192.168.1.10:8080\n"},
		{name: "no cluster range: this node's pods", cfg: func(c *render.Config) { c.ClusterCIDRs = nil },
			services: []*model.Service{service("one", "10.96.0.10", "10.0.2.2")}, hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.10:80"},
			want: "1.00 forward 10.0.2.2:8080\n"},
		{name: "no cluster range: others", cfg: func(c *render.Config) { c.ClusterCIDRs = nil },
			services: []*model.Service{service("one", "10.96.0.10", "10.0.2.2")}, hop: hop{outside, "10.0.2.9", "tcp", "10.96.0.10:80"},
			want: "1.00 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "two cluster ranges, from the second", cfg: func(c *render.Config) { c.ClusterCIDRs = append(c.ClusterCIDRs, prefix("10.9.0.0/16")) },
			services: []*model.Service{service("one", "10.96.0.10", "10.0.2.2")}, hop: hop{pod, "10.9.1.9", "tcp", "10.96.0.10:80"},
			want: "1.00 forward 10.0.2.2:8080\n"},
		{name: "two cluster ranges, from neither", cfg: func(c *render.Config) { c.ClusterCIDRs = append(c.ClusterCIDRs, prefix("10.9.0.0/16")) },
			services: []*model.Service{service("one", "10.96.0.10", "10.0.2.2")}, hop: hop{outside, "10.10.1.9", "tcp", "10.96.0.10:80"},
			want: "1.00 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "masquerade all", cfg: func(c *render.Config) { c.MasqueradeAll = true },
			services: []*model.Service{service("one", "10.96.0.10", "10.0.2.2")}, hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.10:80"},
			want: "1.00 forward 10.0.2.2:8080 masqueraded\n"},
		{name: "known range: endpoints", cfg: range4, services: []*model.Service{web()}, hop: hop{pod, "10.0.1.1", "tcp", "10.96.0.10:80"},
			want: "0.50 forward 10.0.1.1:8080 masqueraded\n0.50 forward 10.0.2.2:8080\n"},
		{name: "known range: no endpoints", cfg: range4, services: []*model.Service{web(), empty()}, hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.11:80"},
			want: "1.00 reject\n"},
		{name: "known range: no such port", cfg: range4, services: []*model.Service{web()}, hop: hop{host, "192.168.1.10", "tcp", "10.96.0.10:81"},
			want: "1.00 reject\n"},
		{name: "known range: no such Service", cfg: range4, services: []*model.Service{web()}, hop: hop{outside, "172.16.0.1", "udp", "10.96.200.1:53"},
			want: "1.00 reject\n"},
		{name: "known range: no such Service, IPv6", cfg: range4, family: ruleset.IPv6, services: []*model.Service{web()}, hop: hop{pod, "fd02::1", "udp", "[fd00::9]:53"},
			want: "1.00 reject\n"},
		{name: "outside of the known range", cfg: range4, services: []*model.Service{service("far", "10.97.0.1")}, hop: hop{pod, "10.0.1.9", "tcp", "10.97.0.1:80"},
			want: "1.00 reject\n"},
		{name: "outside of the known range, no such Service", cfg: range4, services: []*model.Service{service("far", "10.97.0.1")}, hop: hop{pod, "10.0.1.9", "tcp", "10.97.0.2:80"},
			want: "1.00 forward 10.97.0.2:80\n"},
		{name: "known range: another proxy's", cfg: range4, services: []*model.Service{web(), with(service("o", "10.96.0.12", "10.0.2.2"), func(s *model.Service) { s.OtherProxy = true })},
			hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.12:80"}, want: "1.00 forward 10.96.0.12:80\n"},
		{name: "headless", services: []*model.Service{with(service("h", "10.96.0.10", "10.0.2.2"), func(s *model.Service) { s.Headless = true })},
			hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.10:80"}, want: "1.00 forward 10.96.0.10:80\n"},
		{name: "another proxy's", services: []*model.Service{with(service("o", "10.96.0.10", "10.0.2.2"), func(s *model.Service) { s.OtherProxy = true })},
			hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.10:80"}, want: "1.00 forward 10.96.0.10:80\n"},
		{name: "external name", services: []*model.Service{with(service("e", "10.96.0.10", "10.0.2.2"), func(s *model.Service) { s.ExternalName = "a.b" })},
			hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.10:80"}, want: "1.00 forward 10.96.0.10:80\n"},
		{name: "endpoints that end are used if there are no others", services: []*model.Service{with(service("w", "10.96.0.10", "10.0.2.2", "10.0.2.3"), func(s *model.Service) {
			for i := range s.Groups[0].Endpoints {
				s.Groups[0].Endpoints[i].Ready, s.Groups[0].Endpoints[i].Terminating = false, true
			}
			s.Groups[0].Endpoints[1].Serving = false
		})}, hop: hop{pod, "10.0.1.9", "tcp", "10.96.0.10:80"}, want: "1.00 forward 10.0.2.2:8080\n"},
		{name: "UDP", services: []*model.Service{with(service("u", "10.96.0.10", "10.0.2.2"), func(s *model.Service) {
			s.Ports[0].Protocol, s.Groups[0].Ports[0].Protocol = model.UDP, model.UDP
		})}, hop: hop{pod, "10.0.1.9", "udp", "10.96.0.10:80"}, want: "1.00 forward 10.0.2.2:8080\n"},
		{name: "SCTP", services: []*model.Service{with(service("u", "10.96.0.10", "10.0.2.2"), func(s *model.Service) {
			s.Ports[0].Protocol, s.Groups[0].Ports[0].Protocol = model.SCTP, model.SCTP
		})}, hop: hop{pod, "10.0.1.9", "sctp", "10.96.0.10:80"}, want: "1.00 forward 10.0.2.2:8080\n"},
		{name: "IPv6", family: ruleset.IPv6, services: []*model.Service{service("six", "10.96.0.10,fd00::a", "fd02:0:0:1::1", "10.0.1.1", "fd02:0:0:2::2")},
			hop:  hop{pod, "fd02:0:0:1::1", "tcp", "[fd00::a]:80"},
			want: "0.50 forward [fd02:0:0:1::1]:8080 masqueraded\n0.50 forward [fd02:0:0:2::2]:8080\n"},
		{name: "IPv6 localhost is no node port", family: ruleset.IPv6, services: []*model.Service{withNodePort(service("six", "fd00::a", "fd02:0:0:2::2"), 30080)},
			hop: hop{host, "::1", "tcp", "[::1]:30080"}, want: "1.00 deliver [::1]:30080\n"},
		{name: "IPv6 node port", family: ruleset.IPv6, services: []*model.Service{withNodePort(service("six", "fd00::a", "fd02:0:0:2::2"), 30080)},
			hop: hop{outside, "fd99::1", "tcp", "[fd01::10]:30080"}, want: "1.00 forward [fd02:0:0:2::2]:8080 masqueraded\n"},
		{name: "node port of a Service of the other family only", family: ruleset.IPv6, services: []*model.Service{web()},
			hop: hop{outside, "fd99::1", "tcp", "[fd01::10]:30080"}, want: "1.00 deliver [fd01::10]:30080\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config()
			if tt.cfg != nil {
				tt.cfg(&cfg)
			}
			if tt.family == 0 {
				tt.family = ruleset.IPv4
			}
			fake := load(t, tt.family, cfg, tt.services...)
			if diff := cmp.Diff(tt.want, fake.Trace(tt.hop.packet()).String()); diff != "" {
				t.Errorf("%+v (-want +got):\n%s\n%s", tt.hop, diff, fake.Dump())
			}
		})
	}
}

// TestMarkIsTakenOff checks that no packet leaves with the mark but those that
// were masqueraded by other rules than Signpost's: a mark that stays would
// have an effect on the next traversal.
func TestMarkIsTakenOff(t *testing.T) {
	fake := load(t, ruleset.IPv4, config(), withNodePort(service("web", "10.96.0.10", "10.0.2.2"), 30080))
	for _, dst := range []string{"10.96.0.10:80", "10.96.0.10:81", "10.96.77.1:80", "192.168.1.10:30080", "192.168.1.10:30081", "8.8.8.8:53"} {
		for _, o := range fake.Trace(hop{outside, "172.16.0.1", "tcp", dst}.packet()) {
			if o.Mark != 0 {
				t.Errorf("a packet to %s leaves with mark %#x", dst, o.Mark)
			}
		}
	}
}

// TestEvenSpread checks that each of n endpoints gets its n-th part.
func TestEvenSpread(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 117} {
		var eps []string
		for i := range n {
			eps = append(eps, fmt.Sprintf("10.0.2.%d", i+1))
		}
		fake := load(t, ruleset.IPv4, config(), service("web", "10.96.0.10", eps...))
		got := fake.Trace(hop{pod, "10.0.1.9", "tcp", "10.96.0.10:80"}.packet())
		if len(got) != n {
			t.Errorf("%d endpoints: %d outcomes", n, len(got))
		}
		for _, o := range got {
			if want := 1 / float64(n); o.Odds < want*0.999999 || o.Odds > want*1.000001 {
				t.Errorf("%d endpoints: %s gets %.10f", n, o.Dst, o.Odds)
			}
		}
	}
}

// TestLocalListener checks both sides of the flip: the socket gets the packets
// while it is there, the endpoints get them when it is not.
func TestLocalListener(t *testing.T) {
	cfg := config()
	cfg.LocalListeners = []netip.AddrPort{addrPort("10.96.0.10:53"), addrPort("[fd00::a]:53"), addrPort("169.254.20.10:53")}
	dns := func(eps ...string) *model.Service {
		return with(service("dns", "10.96.0.10", eps...), func(s *model.Service) {
			s.Ports[0] = model.ServicePort{Name: "http", Protocol: model.UDP, Port: 53}
			s.Groups[0].Ports[0].Protocol = model.UDP
		})
	}
	query := hop{pod, "10.0.1.9", "udp", "10.96.0.10:53"}.packet()
	tests := []struct {
		name    string
		svc     *model.Service
		local   bool
		socket  bool
		from    iptablestest.Origin
		verdict string
	}{
		{"socket", dns("10.0.2.2"), true, true, pod, "1.00 deliver 10.96.0.10:53 untracked\n"},
		{"no socket", dns("10.0.2.2"), true, false, pod, "1.00 forward 10.0.2.2:8080\n"},
		{"no socket, one endpoint on this node", dns("192.168.1.10", "10.0.2.2"), true, false, pod, "1.00 forward 10.0.2.2:8080\n"},
		{"no socket, this node's endpoint only", dns("192.168.1.10"), true, false, pod, "1.00 deliver 192.168.1.10:8080\n"},
		{"socket, no endpoints", dns(), true, true, pod, "1.00 deliver 10.96.0.10:53 untracked\n"},
		{"socket, no endpoints, from the node", dns(), true, true, host, "1.00 deliver 10.96.0.10:53\n"},
		{"no address, no endpoints", dns(), false, false, pod, "1.00 reject\n"},
	}
	for i, tt := range append(tests, tests...) {
		t.Run(tt.name, func(t *testing.T) {
			if i >= len(tests) { // and all again in a known range
				cfg.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/12")}
			}
			fake := load(t, ruleset.IPv4, cfg, tt.svc)
			if tt.local {
				fake.Local = append(fake.Local, addr("10.96.0.10"))
			}
			if tt.socket {
				fake.Sockets = []iptablestest.Socket{{Proto: "udp", Addr: addrPort("10.96.0.10:53")}}
			}
			p := query
			p.From = tt.from
			if diff := cmp.Diff(tt.verdict, fake.Trace(p).String()); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, fake.Dump())
			}
			reply := iptablestest.Packet{From: host, Proto: "udp", Src: query.Dst, Dst: query.Src}
			if got := fake.Trace(reply); !got[0].Untracked {
				t.Errorf("the reply is tracked: %v", got)
			}
		})
	}
}

// TestForward checks what the FORWARD chain does to packets that do not start a
// connection, on a node that forwards nothing by itself.
func TestForward(t *testing.T) {
	fake := load(t, ruleset.IPv4, config(), service("web", "10.96.0.10", "10.0.2.2"))
	if err := fake.Restore(t.Context(), "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[iptablestest.State]string{
		iptablestest.StateEstablished: "1.00 forward 10.0.2.2:8080\n",
		iptablestest.StateRelated:     "1.00 forward 10.0.2.2:8080\n",
		iptablestest.StateInvalid:     "1.00 drop\n",
		iptablestest.StateNew:         "1.00 drop\n",
	} {
		p := hop{pod, "10.0.1.9", "tcp", "10.0.2.2:8080"}.packet()
		p.State = state
		if got := fake.Trace(p).String(); got != want {
			t.Errorf("%s: got %s, want %s", state, got, want)
		}
	}
	// What is going to be masqueraded is let through.
	if got := fake.Trace(hop{outside, "172.16.0.1", "tcp", "10.96.0.10:80"}.packet()).String(); got != "1.00 forward 10.0.2.2:8080 masqueraded\n" {
		t.Errorf("from outside: %s", got)
	}
}
