package eligible

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/model"
)

var (
	four = netip.MustParseAddr("192.0.2.200")
	six  = netip.MustParseAddr("2001:db8::200")
	http = model.ServicePort{Name: "http", Protocol: model.TCP, Port: 80}
)

// balanced returns a Service with these addresses.
func balanced(name string, change func(*model.Service), addresses ...netip.Addr) *model.Service {
	svc := &model.Service{
		Name: model.Name{Namespace: "default", Name: name}, Announced: true,
		Ports: []model.ServicePort{http}, LoadBalancerIPs: addresses,
	}
	if change != nil {
		change(svc)
	}
	return svc
}

// endpoints gives a Service the policy Local and endpoints on nodes: "a" is ready
// there, "a-" ends there, "a!" is not ready.
func endpoints(on ...string) func(*model.Service) {
	return func(svc *model.Service) {
		svc.ExternalLocal = true
		group := model.EndpointGroup{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}}}
		for i, n := range on {
			e := model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), Node: n[:1], Ready: len(n) == 1, Serving: len(n) == 1}
			if len(n) > 1 && n[1] == '-' {
				e.Serving, e.Terminating = true, true
			}
			group.Endpoints = append(group.Endpoints, e)
		}
		svc.Groups = append(svc.Groups, group)
	}
}

func snapshot(services ...*model.Service) *model.ServiceMap {
	changes := map[model.Name]*model.Service{}
	for _, s := range services {
		changes[s.Name] = s
	}
	out := new(model.ServiceMap).With(changes)
	return &out
}

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestAddresses(t *testing.T) {
	all := []string{"c", "a", "b"}
	sorted := []string{"a", "b", "c"}
	here := func(ranges string, interfaces ...string) Pool {
		r, err := v1alpha1.ParseRange(ranges)
		if err != nil {
			t.Fatal(err)
		}
		return Pool{Ranges: []v1alpha1.Range{r}, Here: true, Interfaces: interfaces}
	}
	away := here("192.0.2.0/24")
	away.Here = false
	for _, tt := range []struct {
		name     string
		services []*model.Service
		pools    []Pool
		node     model.Node
		want     map[netip.Addr]Address
	}{
		{name: "nothing"},
		{name: "both families", services: []*model.Service{balanced("x", nil, four, six)},
			want: map[netip.Addr]Address{four: {Nodes: sorted}, six: {Nodes: sorted}}},
		{name: "of somebody else", services: []*model.Service{balanced("x", func(s *model.Service) { s.Announced = false }, four)}},
		{name: "of another proxy", services: []*model.Service{balanced("x", func(s *model.Service) { s.OtherProxy = true }, four)}},
		{name: "of a node that leaves", services: []*model.Service{balanced("x", nil, four)}, node: model.Node{Name: "a", Leaving: true}},
		{name: "of a node that runs no Signpost, as far as is known", services: []*model.Service{balanced("x", nil, four)}, node: model.Node{Name: "d"}},
		{name: "at interfaces", services: []*model.Service{balanced("x", nil, four)}, pools: []Pool{here("198.51.100.0/24", "eth7"), here("192.0.2.0/24", "eth1"), away},
			want: map[netip.Addr]Address{four: {Nodes: sorted, Interfaces: []string{"eth1"}}}},
		{name: "of other nodes", services: []*model.Service{balanced("x", nil, four)}, pools: []Pool{away, here("192.0.2.0/24")}},
		{name: "kept outside of pools", services: []*model.Service{balanced("x", nil, six)}, pools: []Pool{away},
			want: map[netip.Addr]Address{six: {Nodes: sorted}}},
		{name: "local, with an endpoint", services: []*model.Service{balanced("x", endpoints("a", "b-", "c!", "d"), four)},
			want: map[netip.Addr]Address{four: {Nodes: []string{"a"}}}},
		{name: "local, without", services: []*model.Service{balanced("x", endpoints("b", "a-"), four)}},
		{name: "local, not ready", services: []*model.Service{balanced("x", endpoints("a!"), four)}},
		{name: "local, and all of them end", services: []*model.Service{balanced("x", endpoints("a-", "c-", "b!"), four)},
			want: map[netip.Addr]Address{four: {Nodes: []string{"a", "c"}}}},
		{name: "local, of the other family", services: []*model.Service{balanced("x", endpoints("a"), six)}},
		{name: "shared", services: []*model.Service{balanced("x", endpoints("a", "b"), four), balanced("y", endpoints("a", "c"), four)},
			want: map[netip.Addr]Address{four: {Nodes: []string{"a"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.node.Name == "" {
				tt.node.Name = "a"
			}
			var s Services
			s.Follow(snapshot(tt.services...))
			got := s.Addresses(&tt.node, all, tt.pools)
			if tt.want == nil {
				tt.want = map[netip.Addr]Address{}
			}
			if diff := cmp.Diff(tt.want, got, compareAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestFollow: only what has to do with addresses is news.
func TestFollow(t *testing.T) {
	var s Services
	plain := balanced("plain", func(svc *model.Service) { svc.LoadBalancerIPs = nil })
	x, y := balanced("x", nil, four), balanced("y", nil, four, six)
	now := snapshot(plain)
	for _, tt := range []struct {
		what    string
		change  map[model.Name]*model.Service
		changed bool
		of      int
	}{
		{"a Service without", nil, false, 0},
		{"one with", map[model.Name]*model.Service{x.Name: x}, true, 1},
		{"nothing", nil, false, 1},
		{"another one of the same address", map[model.Name]*model.Service{y.Name: y}, true, 2},
		{"it is another object", map[model.Name]*model.Service{y.Name: balanced("y", nil, six)}, true, 1},
		{"the plain one is", map[model.Name]*model.Service{plain.Name: balanced("plain", func(svc *model.Service) { svc.LoadBalancerIPs = nil })}, false, 1},
		{"it is gone", map[model.Name]*model.Service{x.Name: nil}, true, 0},
	} {
		next := now.With(tt.change)
		now = &next
		if got := s.Follow(now); got != tt.changed {
			t.Errorf("%s: news: %v", tt.what, got)
		}
		if got := s.Of(four); len(got) != tt.of || s.Any() != (tt.what != "a Service without") {
			t.Errorf("%s: %d have the address, any: %v", tt.what, len(got), s.Any())
		}
	}
}
