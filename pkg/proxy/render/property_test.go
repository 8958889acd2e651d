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
