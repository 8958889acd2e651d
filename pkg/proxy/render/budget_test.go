package render_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// many returns n Services with cluster IPs from 10.96.0.0 on, of so many endpoints each.
func many(n, endpoints int, change func(i int, s *model.Service)) model.ServiceMap {
	all := make([]*model.Service, n)
	for i := range all {
		var eps []string
		for e := range endpoints {
			eps = append(eps, fmt.Sprintf("10.0.%d.%d", 2+e/250, e%250+1))
		}
		all[i] = service(fmt.Sprint("s", i), netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)}).String(), eps...)
		if change != nil {
			change(i, all[i])
		}
	}
	return serviceMap(all...)
}

func rules(s *ruleset.Set) int {
	return s.Rules(ruleset.NAT) + s.Rules(ruleset.Filter) + s.Rules(ruleset.Raw)
}

// inRange is the configuration of a cluster that says where cluster IPs come from.
func inRange() render.Config {
	cfg := config()
	cfg.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/12")}
	return cfg
}

// TestAChangeCostsTheChange is the budget of an update: what is written when a
// Service changes does not depend on how many others there are. Each step
// follows the one before it.
func TestAChangeCostsTheChange(t *testing.T) {
	m := many(2000, 2, func(i int, s *model.Service) { s.Ports[0].NodePort = uint16(30000 + i) })
	r := render.New(ruleset.IPv4, inRange(), node())
	r.Update(&m)
	s7 := func(eps ...string) *model.Service { return withNodePort(service("s7", "10.96.0.7", eps...), 30007) }
	tests := []struct {
		name          string
		svc           *model.Service
		chains, rules int
	}{
		{"an endpoint more", s7("10.0.2.1", "10.0.2.2", "10.0.2.3"), 1, 3},
		{"an endpoint replaced", s7("10.0.2.1", "10.0.2.2", "10.0.2.4"), 1, 3},
		// It leaves its leaves, which are written with their 15 other Services each; and
		// its chain, and the way to the one that rejects node ports.
		{"the last endpoint goes", s7(), 5, 2*15 + 4},
		{"a single endpoint comes", s7("10.0.2.1"), 4, 2*16 + 2},
		{"the single endpoint is replaced", s7("10.0.2.3"), 2, 2 * 16},
		{"it is replaced by one of this node", s7("10.0.1.1"), 3, 2*16 + 1},
		{"a Service more", service("new", "10.96.7.250", "10.0.2.1"), 1, 14},
		{"a Service more, with node port", withNodePort(service("port", "10.96.7.251", "10.0.2.1"), 31999), 2, 14 + 17},
		{"the same Service once more", withNodePort(service("port", "10.96.7.251", "10.0.2.1"), 31999), 0, 0},
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

// TestRuleBudget pins what a Service costs, so that it is decided and does not just
// happen. The price of a kind is what forty Services of it have, all but what none has and what
// leads to them; each budget is met exactly.
func TestRuleBudget(t *testing.T) {
	nodePort := func(i int, s *model.Service) { s.Ports[0].NodePort = uint16(30016 + i) }
	balanced := func(i int, s *model.Service) {
		nodePort(i, s)
		s.LoadBalancerIPs = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})}
	}
	tests := []struct {
		name         string
		endpoints    int
		change       func(i int, s *model.Service)
		each, shared int
	}{
		{"no endpoints", 0, nil, 0, 0},
		{"one endpoint", 1, nil, 1, 3},
		{"ten endpoints", 10, nil, 10, 3 + 3},
		{"twenty endpoints, too many for a leaf", 20, nil, 1 + 20, 3},
		{"100 endpoints, in two steps", 100, nil, 1 + 8 + 100, 3},
		{"no endpoints, node port", 0, nodePort, 1, 1},
		{"one endpoint, node port", 1, nodePort, 2, 3 + 3},
		{"ten endpoints, node port", 10, nodePort, 2 + 10, 3 + 3},
		{"ten endpoints, load balancer", 10, balanced, 3 + 10, 3 + 3 + 3},
		{"no endpoints, load balancer", 0, balanced, 2, 1 + 1},
		{"ten endpoints, load balancer with two ranges", 10, func(i int, s *model.Service) {
			balanced(i, s)
			s.SourceRanges = []netip.Prefix{prefix("192.0.2.0/25"), prefix("198.51.100.0/24")}
		}, 3 + 10 + 3 + 1, 3 + 3 + 3 + 1},
		{"three endpoints, affinity", 3, func(_ int, s *model.Service) { s.AffinityTimeout = 1e9 }, 1 + 2*3 + 2*3, 3},
		{"two endpoints elsewhere, external policy Local", 2, func(i int, s *model.Service) {
			nodePort(i, s)
			s.ExternalLocal = true
		}, 1 + 2 + 1 + 4 + 1, 3 + 3 + 1},
	}
	none := render.New(ruleset.IPv4, inRange(), node()).Set()
	if got := rules(none); got != 14 {
		t.Errorf("%d rules without Services, budget 14:\n%s", got, ruleset.Replace(none, nil).Text())
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := many(40, tt.endpoints, tt.change)
			set := render.Render(ruleset.IPv4, inRange(), node(), &m).Set
			if got, want := rules(set)-rules(none), 40*tt.each+tt.shared; got != want {
				t.Errorf("40 Services have %d rules, budget 40×%d+%d = %d:\n%s", got, tt.each, tt.shared, want, ruleset.Replace(set, nil).Text())
			}
		})
	}
}

// TestLargeClusterBudget is the budget of whole clusters. kube-proxy has 80,005
// rules in 30,000 chains for the first of them, and 310,005 in 110,000 for the second.
func TestLargeClusterBudget(t *testing.T) {
	for _, tt := range []struct{ services, endpoints, rules, chains int }{
		{10000, 2, 21000, 700},
		{10000, 10, 101000, 700},
		{2000, 40, 82500, 2200},
	} {
		m := many(tt.services, tt.endpoints, nil)
		set := render.Render(ruleset.IPv4, inRange(), node(), &m).Set
		if rules(set) > tt.rules || set.Len() > tt.chains {
			t.Errorf("%d×%d: %d rules, %d chains; budget %d and %d", tt.services, tt.endpoints, rules(set), set.Len(), tt.rules, tt.chains)
		}
		t.Logf("%d×%d: %d rules in %d chains", tt.services, tt.endpoints, rules(set), set.Len())
	}
}

// BenchmarkUpdateOne is one changed endpoint, from the Service to the text.
func BenchmarkUpdateOne(b *testing.B) {
	for _, endpoints := range []int{2, 10} {
		for _, n := range []int{1000, 10000} {
			b.Run(fmt.Sprint(n, "x", endpoints), func(b *testing.B) {
				m := many(n, endpoints, nil)
				cfg := inRange()
				cfg.ClusterCIDRs = nil
				r := render.New(ruleset.IPv4, cfg, node())
				r.Update(&m)
				written := 0
				for i := 0; b.Loop(); i++ {
					name := model.Name{Namespace: "default", Name: fmt.Sprint("s", i%n)}
					svc := *m.Get(name)
					group := svc.Groups[0]
					group.Endpoints = append([]model.Endpoint{}, group.Endpoints...)
					group.Endpoints[0].Addr = netip.AddrFrom4([4]byte{10, 0, 77, byte(i)})
					svc.Groups = []model.EndpointGroup{group}
					m = m.With(map[model.Name]*model.Service{name: &svc})
					was := r.Set()
					written += len(ruleset.Diff(was, r.Update(&m)).Text())
				}
				b.ReportMetric(float64(written)/float64(b.N), "text-bytes/op")
			})
		}
	}
}

// BenchmarkRenderAll is the start.
func BenchmarkRenderAll(b *testing.B) {
	for _, endpoints := range []int{2, 10} {
		b.Run(fmt.Sprint("10000x", endpoints), func(b *testing.B) {
			b.ReportAllocs()
			m := many(10000, endpoints, nil)
			cfg := inRange()
			cfg.ClusterCIDRs = nil // where endpoints are has to be gathered then
			for b.Loop() {
				_ = ruleset.Replace(render.Render(ruleset.IPv4, cfg, node(), &m).Set, nil).Text()
			}
		})
	}
}
