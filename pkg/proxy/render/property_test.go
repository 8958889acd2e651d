package render_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// randomService returns some version of one of 60 Services, many of them odd:
// without ports, with the address or node port of another, with names that no
// API server lets pass.
func randomService(rng *rand.Rand) *model.Service {
	i := rng.IntN(60)
	svc := service(fmt.Sprint("s", i), fmt.Sprintf("10.%d.%d.%d,fd00::%x", 96+i%3, i%5, rng.IntN(9), rng.IntN(9)))
	svc.Headless = rng.IntN(10) == 0
	svc.OtherProxy = rng.IntN(15) == 0
	svc.Ports = nil
	for p := range rng.IntN(4) {
		port := model.ServicePort{
			Name: fmt.Sprint("p", p), Protocol: []model.Protocol{model.TCP, model.UDP, model.SCTP, "QUIC"}[rng.IntN(4)],
			Port: uint16(rng.IntN(4)), NodePort: uint16(rng.IntN(2) * (30000 + rng.IntN(200))),
		}
		if rng.IntN(20) == 0 {
			port.Name = "a\nCOMMIT\n\"b"
		}
		svc.Ports = append(svc.Ports, port)
	}
	svc.Groups = nil
	for range rng.IntN(3) {
		var group model.EndpointGroup
		for _, p := range svc.Ports {
			group.Ports = append(group.Ports, model.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: uint16(rng.IntN(3))})
		}
		for range rng.IntN(5) {
			a := netip.AddrFrom4([4]byte{10, 0, byte(1 + rng.IntN(2)), byte(rng.IntN(9))})
			if rng.IntN(2) == 0 {
				a = netip.MustParseAddr(fmt.Sprintf("fd02:0:0:%x::%x", 1+rng.IntN(2), rng.IntN(9)))
			}
			group.Endpoints = append(group.Endpoints, model.Endpoint{
				Addr: a, Ready: rng.IntN(3) > 0, Serving: rng.IntN(3) > 0, Terminating: rng.IntN(3) == 0,
				Node: []string{"here", "there", ""}[rng.IntN(3)],
			})
		}
		svc.Groups = append(svc.Groups, group)
	}
	return svc
}

// TestIncrementalIsFull checks that what comes of many small updates is what one
// render of the result gives, that the text of each difference takes a node from
// one to the next without an error, and that the node then has exactly what a new
// one would have.
func TestIncrementalIsFull(t *testing.T) {
	for seed := range uint64(8) {
		for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			t.Run(fmt.Sprint(seed, " ", family), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 7))
				cfg := config()
				if seed%2 == 1 {
					cfg.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/15"), prefix("fd00::/109")}
				}
				r := render.New(family, cfg, node())
				fake := iptablestest.New(family)
				if err := fake.Load(r.Set(), r.Hooks()); err != nil {
					t.Fatal(err)
				}
				var m model.ServiceMap
				for range 60 {
					changes := map[model.Name]*model.Service{}
					for range 1 + rng.IntN(6) {
						svc := randomService(rng)
						changes[svc.Name] = svc
						if rng.IntN(4) == 0 {
							changes[svc.Name] = nil
						}
					}
					m = m.With(changes)
					was := r.Set()
					now := r.Update(&m)
					if err := fake.Restore(t.Context(), ruleset.Diff(was, now).Text()); err != nil {
						t.Fatalf("the difference is refused: %v\n%s", err, ruleset.Diff(was, now).Text())
					}
					full := render.Render(family, cfg, node(), &m)
					if want, got := ruleset.Replace(full.Set, nil).Text(), ruleset.Replace(now, nil).Text(); want != got {
						t.Fatalf("(-full +incremental):\n%s", cmp.Diff(want, got))
					}
					for n := range m.All() {
						if want, got := full.Problems[n], r.Problems(n); !slices.Equal(want, got) {
							t.Fatalf("problems of %s: incremental %v, full %v", n, got, want)
						}
					}
				}
				fresh := iptablestest.New(family)
				if err := fresh.Load(r.Set(), r.Hooks()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(fresh.Dump(), fake.Dump()); diff != "" {
					t.Errorf("(-fresh node +updated node):\n%s", diff)
				}
			})
		}
	}
}

// TestAChangeCostsTheChange is the budget of an update: what is written when a
// Service changes does not depend on how many others there are.
func TestAChangeCostsTheChange(t *testing.T) {
	all := map[model.Name]*model.Service{}
	for i := range 2000 {
		svc := withNodePort(service(fmt.Sprint("s", i), fmt.Sprintf("10.96.%d.%d", i/200, i%200+1), "10.0.2.1", "10.0.2.2"), uint16(30000+i))
		all[svc.Name] = svc
	}
	var m model.ServiceMap
	m = m.With(all)
	r := render.New(ruleset.IPv4, config(), node())
	r.Update(&m)
	tests := []struct {
		name          string
		svc           *model.Service
		chains, rules int
	}{
		{"an endpoint more", withNodePort(service("s7", "10.96.0.8", "10.0.2.1", "10.0.2.2", "10.0.2.3"), 30007), 1, 3},
		{"the last endpoint goes", withNodePort(service("s7", "10.96.0.8"), 30007), 5, 11},
		{"a local endpoint comes", withNodePort(service("s7", "10.96.0.8", "10.0.1.1"), 30007), 6, 11},
		{"a Service more in an old /24", service("new", "10.96.0.250", "10.0.2.1"), 3, 1 + 201 + 2001},
	}
	for _, tt := range tests {
		was := r.Set()
		m = m.With(map[model.Name]*model.Service{tt.svc.Name: tt.svc})
		change := ruleset.Diff(was, r.Update(&m))
		if len(change.Write)+len(change.Delete) > tt.chains || change.Rules() > tt.rules {
			t.Errorf("%s: %d chains written, %d deleted, %d rules; budget %d and %d\n%s",
				tt.name, len(change.Write), len(change.Delete), change.Rules(), tt.chains, tt.rules, change.Text())
		}
	}
}

// TestRuleBudget fails when the number of rules per Service and endpoint
// changes, so that what it costs is decided and does not just happen.
func TestRuleBudget(t *testing.T) {
	cfg := config()
	count := func(services, endpoints int, nodePort bool) int {
		all := map[model.Name]*model.Service{}
		for i := range services {
			var eps []string
			for e := range endpoints {
				eps = append(eps, fmt.Sprintf("10.0.2.%d", e+1))
			}
			svc := service(fmt.Sprint("s", i), fmt.Sprintf("10.96.0.%d", i+1), eps...)
			if nodePort {
				svc.Ports[0].NodePort = uint16(30016 + i)
			}
			all[svc.Name] = svc
		}
		var m model.ServiceMap
		m = m.With(all)
		set := render.Render(ruleset.IPv4, cfg, node(), &m).Set
		return set.Rules(ruleset.NAT) + set.Rules(ruleset.Filter) + set.Rules(ruleset.Raw)
	}
	none := count(0, 0, false)
	if none != 8 {
		t.Errorf("%d rules without Services, budget 8", none)
	}
	const tree = 3 + 2 + 2 // nat: /16, /20, /24 and the mark on and off; filter: /16, /20
	for _, tt := range []struct{ services, endpoints int }{{1, 0}, {1, 1}, {1, 10}, {10, 1}, {10, 10}, {40, 3}} {
		got := count(tt.services, tt.endpoints, false) - none
		if want := tree + tt.services*(2+tt.endpoints); got != want {
			t.Errorf("%d Services of %d endpoints: %d rules, budget %d", tt.services, tt.endpoints, got, want)
		}
		const ports = 1 + 2 + 1 // to node ports, mark on and off, the block of 64
		perService := 1
		extra := ports
		if tt.endpoints == 0 {
			perService, extra = 2, ports+2 // rejected in filter, which has a way there then
		}
		if withPorts := count(tt.services, tt.endpoints, true) - none - got; withPorts != extra+tt.services*perService {
			t.Errorf("%d Services of %d endpoints: node ports take %d rules, budget %d", tt.services, tt.endpoints, withPorts, extra+tt.services*perService)
		}
	}
	// Where the range of the cluster IPs is known, one rule rejects for all, and
	// one resets for TCP.
	cfg.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/16")}
	if got, want := count(10, 3, false), none+2+5+10*(1+3); got != want {
		t.Errorf("10 Services of 3 endpoints in a known range: %d rules, budget %d", got, want)
	}
}

// TestBadServices checks that what is wrong with a Service is named, and that
// the others, and the rest of it, go on.
func TestBadServices(t *testing.T) {
	good := service("good", "10.96.0.1", "10.0.2.1")
	tests := []struct {
		name    string
		svc     *model.Service
		problem string
	}{
		{"protocol", with(service("bad", "10.96.0.2"), func(s *model.Service) { s.Ports[0].Protocol = "QUIC" }), "spec.ports[0].protocol"},
		{"port 0", with(service("bad", "10.96.0.2"), func(s *model.Service) { s.Ports[0].Port = 0 }), "spec.ports[0].port"},
		{"a rule in its name", with(service("bad", "10.96.0.2"), func(s *model.Service) {
			s.Name.Name = "x\"\n-A FORWARD -j DROP\n"
		}), "metadata.name"},
		{"a rule in its port's name", with(service("bad", "10.96.0.2"), func(s *model.Service) { s.Ports[0].Name = "x\nCOMMIT" }), "spec.ports[0].name"},
		{"address", with(service("bad", "10.96.0.2"), func(s *model.Service) { s.ClusterIPs[0] = netip.Addr{} }), "spec.clusterIPs[0]"},
		{"the address and port of another", service("worse", "10.96.0.1", "10.0.2.9"), "spec.clusterIPs: port default/worse:http: default/good:http"},
		{"endpoint port", with(service("bad", "10.96.0.2", "10.0.2.2"), func(s *model.Service) { s.Groups[0].Ports[0].Port = 0 }), "spec.ports[0]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := serviceMap(good, tt.svc)
			res := render.Render(ruleset.IPv4, config(), node(), &m)
			problems := res.Problems[tt.svc.Name]
			if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), tt.problem) {
				t.Errorf("problems %v, want one of %s", problems, tt.problem)
			}
			if len(res.Problems) != 1 {
				t.Errorf("problems of others: %v", res.Problems)
			}
			fake := load(t, ruleset.IPv4, config(), good, tt.svc)
			if got := fake.Trace(hop{pod, "10.0.1.9", "tcp", "10.96.0.1:80"}.packet()).String(); got != "1.00 forward 10.0.2.1:8080\n" {
				t.Errorf("the good one: %s", got)
			}
		})
	}
}

// TestWithoutMatches checks what is left on a kernel that lacks something.
func TestWithoutMatches(t *testing.T) {
	cfg := config()
	cfg.LocalListeners = []netip.AddrPort{addrPort("10.96.0.1:80")}
	cfg.Kernel = render.Kernel{}
	fake := load(t, ruleset.IPv4, cfg, service("good", "10.96.0.1", "10.0.2.1", "10.0.2.2"))
	for _, lacks := range []string{"comment", "statistic", "random-fully", "socket", "CT", "INVALID"} {
		if slices.Contains(strings.Fields(fake.Dump()), lacks) || strings.Contains(fake.Dump(), "-"+lacks) {
			t.Errorf("rules use %s:\n%s", lacks, fake.Dump())
		}
	}
	if got := fake.Trace(hop{pod, "10.0.1.9", "tcp", "10.96.0.1:80"}.packet()).String(); got != "1.00 forward 10.0.2.1:8080\n" {
		t.Errorf("got %s", got)
	}
}

// TestHairpinList checks that only pods of this node are in the list that every
// translated connection walks.
func TestHairpinList(t *testing.T) {
	svc := service("web", "10.96.0.10", "10.0.1.1", "10.0.2.2", "192.168.1.10", "10.0.1.3", "10.0.2.3")
	for i, name := range []string{"here", "there", "here", "", ""} {
		svc.Groups[0].Endpoints[i].Node = name
	}
	m := serviceMap(svc)
	set := render.Render(ruleset.IPv4, config(), node(), &m).Set
	got := set.Get(ruleset.Key{Table: ruleset.NAT, Name: "SIGNPOST-HAIRPIN"}).Rules
	want := []ruleset.Rule{
		"-s 10.0.1.1/32 -d 10.0.1.1/32 -j SIGNPOST-MASQUERADE",
		"-s 10.0.1.3/32 -d 10.0.1.3/32 -j SIGNPOST-MASQUERADE", // says no node, but is in the node's range
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkUpdateOne(b *testing.B) {
	all := map[model.Name]*model.Service{}
	for i := range 10000 {
		svc := service(fmt.Sprint("s", i), fmt.Sprintf("10.%d.%d.%d", 96+i%16, i/16%250, i/4000+1), "10.0.2.1", "10.0.2.2")
		all[svc.Name] = svc
	}
	var m model.ServiceMap
	m = m.With(all)
	r := render.New(ruleset.IPv4, config(), node())
	r.Update(&m)
	for i := 0; b.Loop(); i++ {
		svc := service(fmt.Sprint("s", i%10000), fmt.Sprintf("10.%d.%d.%d", 96+i%10000%16, i%10000/16%250, i%10000/4000+1), "10.0.2.1", fmt.Sprintf("10.0.3.%d", i/10000%200))
		m = m.With(map[model.Name]*model.Service{svc.Name: svc})
		was := r.Set()
		_ = ruleset.Diff(was, r.Update(&m)).Text()
	}
}
