package pool

import (
	"math/big"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// State is what there is to say of a pool.
type State struct {
	// Ready says that it gives out addresses. Reason and Message are those of
	// v1alpha1.ConditionPoolReady.
	Ready           bool
	Reason, Message string
	// IPv4 and IPv6 are nil if it has no address of the family.
	IPv4, IPv6 *v1alpha1.AddressCount
}

// Pools returns the state of all pools, by name.
func (a *Allocator) Pools() map[string]State {
	used := map[*space]int64{}
	for at := range a.holders {
		for _, p := range a.pools {
			if p.contains(at) {
				used[p.spaces[familyOf(at)]]++
			}
		}
	}
	out := map[string]State{}
	for _, p := range a.pools {
		s := State{Ready: true, Reason: v1alpha1.ReasonPoolReady, Message: "Services get addresses of it"}
		if p.problem != nil {
			s = State{Reason: p.reason, Message: inOneLine(p.problem)}
		}
		s.IPv4 = p.count(corev1.IPv4Protocol, used)
		s.IPv6 = p.count(corev1.IPv6Protocol, used)
		out[p.name] = s
	}
	return out
}

func (p *pool) count(f corev1.IPFamily, used map[*space]int64) *v1alpha1.AddressCount {
	s := p.spaces[f]
	if s == nil {
		return nil
	}
	free := new(big.Int)
	if p.problem == nil {
		free.Sub(s.size(), big.NewInt(used[s]))
	}
	return &v1alpha1.AddressCount{Used: used[s], Free: free.String()}
}
