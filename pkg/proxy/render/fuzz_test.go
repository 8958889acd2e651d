package render_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// FuzzRules checks that nothing that a Service can say makes a restore that is
// refused, or a line that is not a rule in a chain of Signpost's; and that another
// Service beside it goes on, unless the odd one has its address.
func FuzzRules(f *testing.F) {
	f.Add("ns", "web", "http", "TCP", uint16(80), uint16(30080), uint16(8080), []byte{10, 96, 0, 10, 10, 0, 1, 1, 203, 0, 113, 5, 192, 0, 2, 0}, 24, int64(time.Hour), uint16(0x37f))
	f.Add("ns", "a\n-A INPUT -j DROP", "p\" -j ACCEPT", "UDP", uint16(0), uint16(1), uint16(0), []byte{0, 0, 0, 0, 255, 255, 255, 255, 127, 0, 0, 1, 224, 0, 0, 1}, -1, int64(-1), uint16(0xffff))
	f.Add("ns", "web", "", "SCTP", uint16(80), uint16(30080), uint16(80), []byte{10, 96, 0, 10, 10, 0, 1, 1, 203, 0, 113, 5, 10, 0, 1, 2}, 8, int64(-1<<40), uint16(0x7c))
	f.Add("ns", "web", "", "SCTP", uint16(80), uint16(30080), uint16(80), []byte{10, 96, 0, 10, 10, 0, 1, 1, 203, 0, 113, 5, 10, 0, 1, 2}, 8, int64(1<<62), uint16(0x5c))
	f.Fuzz(func(t *testing.T, namespace, name, portName, protocol string, port, nodePort, target uint16, addrs []byte, bits int, timeout int64, flags uint16) {
		flag := func(i int) bool { return flags&(1<<i) != 0 }
		at := func(i int) netip.Addr {
			if flag(0) {
				var a [16]byte
				copy(a[:], addrs[min(len(addrs), 16*i):])
				return netip.AddrFrom16(a)
			}
			var a [4]byte
			copy(a[:], addrs[min(len(addrs), 4*i):])
			return netip.AddrFrom4(a)
		}
		odd := &model.Service{
			Name:            model.Name{Namespace: namespace, Name: name},
			ClusterIPs:      []netip.Addr{at(0)},
			Ports:           []model.ServicePort{{Name: portName, Protocol: model.Protocol(protocol), Port: port, NodePort: nodePort}},
			ExternalIPs:     []netip.Addr{at(2), at(0)},
			LoadBalancerIPs: []netip.Addr{at(2), at(3)},
			SourceRanges:    []netip.Prefix{netip.PrefixFrom(at(3), bits)},
			AffinityTimeout: time.Duration(timeout), InternalLocal: flag(1), ExternalLocal: flag(2), HealthCheckNodePort: nodePort + 1,
			Groups: []model.EndpointGroup{{
				Ports: []model.EndpointPort{{Name: portName, Protocol: model.Protocol(protocol), Port: target}},
				Endpoints: []model.Endpoint{
					{Addr: at(1), Ready: flag(3), Serving: true, Terminating: true, Node: "here"}, {Addr: at(3), Ready: flag(4)},
				},
			}},
		}
		cfg := config()
		cfg.Kernel.IPSets, cfg.Kernel.Comment, cfg.MasqueradeAll = flag(5), flag(6), flag(7)
		if flag(8) {
			cfg.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/16"), prefix("fd00::/108")}
		}
		good := service("good", "10.96.200.1,fd00::c801", "10.0.2.1", "fd02:0:0:2::1")
		m := serviceMap(odd, good)
		for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			res := render.Render(family, cfg, node(), &m)
			change := ruleset.Replace(res.Set, nil)
			fake := iptablestest.New(family)
			if err := fake.Load(res.Set, res.Hooks); err != nil {
				t.Fatalf("%v\n%s", err, change.Text())
			}
			for line := range strings.Lines(change.Text()) {
				known := strings.HasPrefix(line, "*") || line == "COMMIT\n" || strings.HasPrefix(line, ":"+ruleset.Prefix) || strings.HasPrefix(line, "-A "+ruleset.Prefix)
				if !known || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Fatalf("line %q", line)
				}
			}
			probe := map[ruleset.Family]string{ruleset.IPv4: "10.96.200.1:80", ruleset.IPv6: "[fd00::c801]:80"}[family]
			src := map[ruleset.Family]string{ruleset.IPv4: "10.0.1.9", ruleset.IPv6: "fd02:0:0:1::9"}[family]
			want := map[ruleset.Family]string{ruleset.IPv4: "1.00 forward 10.0.2.1:8080", ruleset.IPv6: "1.00 forward [fd02:0:0:2::1]:8080"}[family]
			contested := false
			for i := range 4 {
				contested = contested || at(i) == addrPort(probe).Addr()
			}
			got := fake.Trace(hop{pod, src, "tcp", probe}.packet()).String()
			if !contested && !cfg.MasqueradeAll && got != want+"\n" {
				t.Fatalf("the good Service: %s, want %s\n%s", got, want, change.Text())
			}
		}
	})
}
