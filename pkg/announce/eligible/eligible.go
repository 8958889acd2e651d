package eligible

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/model"
)

// Address is one that a node may announce.
type Address struct {
	// Nodes may announce it, with this one, sorted, as far as that is known here: of a
	// pool's nodes each only knows about itself.
	Nodes []string
	// Interfaces are the names of those to announce it at; none for those that fit.
	Interfaces []string
}

// Pool is what a LoadBalancerPool says to a node.
type Pool struct {
	Ranges []v1alpha1.Range
	// Here says that this node may announce its addresses.
	Here       bool
	Interfaces []string
}

// Services are those with addresses to announce. The zero value has none. It is for
// one goroutine at a time.
type Services struct {
	seen model.ServiceMap
	with map[model.Name]*model.Service
}

// Follow takes over the Services of a snapshot, at a cost that follows the number
// of changes. It says whether anything of those with addresses is new.
func (s *Services) Follow(now *model.ServiceMap) (changed bool) {
	if s.with == nil {
		s.with = map[model.Name]*model.Service{}
	}
	for _, name := range now.Diff(&s.seen) {
		svc := now.Get(name)
		if svc != nil && svc.Announced && len(svc.LoadBalancerIPs) > 0 {
			s.with[name] = svc
			changed = true
		} else if s.with[name] != nil {
			delete(s.with, name)
			changed = true
		}
	}
	s.seen = *now
	return changed
}

// Any says whether there is something to announce in the cluster.
func (s *Services) Any() bool { return len(s.with) > 0 }

// Of returns the Services that have an address, by name: more than one if they
// share it.
func (s *Services) Of(address netip.Addr) []*model.Service {
	var out []*model.Service
	for _, svc := range s.with {
		if slices.Contains(svc.LoadBalancerIPs, address) {
			out = append(out, svc)
		}
	}
	slices.SortFunc(out, func(a, b *model.Service) int { return a.Compare(b.Name) })
	return out
}

// Addresses returns what this node may announce. Nodes are all that run Signpost;
// pools are ordered, those that precede others first. An address of no pool, which
// a Service has kept, is for all nodes.
func (s *Services) Addresses(node *model.Node, nodes []string, pools []Pool) map[netip.Addr]Address {
	out := map[netip.Addr]Address{}
	if node.Leaving {
		return out
	}
	all := slices.Clone(nodes)
	slices.Sort(all)
	may := map[netip.Addr][]string{}
	for _, svc := range s.with {
		for _, address := range svc.LoadBalancerIPs {
			on := all
			if svc.ExternalLocal {
				on = withEndpoints(svc, address, all)
			}
			if svc.OtherProxy {
				on = nil // this node's rules do not know it, nor do others'
			}
			if before, shared := may[address]; shared {
				on = slices.DeleteFunc(slices.Clone(on), func(n string) bool { return !slices.Contains(before, n) })
			}
			may[address] = on
		}
	}
	for address, on := range may {
		pool := poolOf(pools, address)
		if slices.Contains(on, node.Name) && pool.Here {
			out[address] = Address{Nodes: on, Interfaces: pool.Interfaces}
		}
	}
	return out
}

func poolOf(pools []Pool, address netip.Addr) Pool {
	for _, p := range pools {
		if slices.ContainsFunc(p.Ranges, func(r v1alpha1.Range) bool { return r.Contains(address) }) {
			return p
		}
	}
	return Pool{Here: true}
}

// withEndpoints returns those of nodes that have a ready endpoint of the address's
// family for any port. Are there none at all, it is those that still serve while
// they terminate: so an address moves before the last of them ends.
func withEndpoints(svc *model.Service, address netip.Addr, nodes []string) []string {
	ready, ending := map[string]bool{}, map[string]bool{}
	for _, port := range svc.Ports {
		for _, t := range svc.Targets(port, address) {
			switch {
			case t.Endpoint.Ready:
				ready[t.Endpoint.Node] = true
			case t.Endpoint.Serving && t.Endpoint.Terminating:
				ending[t.Endpoint.Node] = true
			}
		}
	}
	maps.DeleteFunc(ready, func(n string, _ bool) bool { return !slices.Contains(nodes, n) })
	if len(ready) == 0 {
		ready = ending
	}
	return slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return !ready[n] })
}
