package pool

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// pool is a LoadBalancerPool as it is worked with.
type pool struct {
	name   string
	scope  v1alpha1.Scope
	auto   bool
	spaces map[corev1.IPFamily]*space
	// services and namespaces are nil for all.
	services, namespaces labels.Selector
	// problem is why it is not ready, and reason the condition's.
	problem error
	reason  string
}

// space are the addresses of a pool in one family.
type space struct {
	// ranges are sorted and apart from each other.
	ranges []v1alpha1.Range
	// next is an address before which none is free; full: there is none at all.
	next netip.Addr
	full bool
}

// compile reads pools. The result is in the order in which Services are given
// addresses from them.
func compile(in []*v1alpha1.LoadBalancerPool) []*pool {
	in = slices.SortedFunc(slices.Values(in), func(a, b *v1alpha1.LoadBalancerPool) int {
		switch {
		case a.Precedes(b):
			return -1
		case b.Precedes(a):
			return 1
		}
		return 0
	})
	var out []*pool
	for _, p := range in {
		c := compileOne(p)
		for _, older := range out {
			if at, both := c.overlaps(older); both && c.problem == nil && older.problem == nil {
				c.problem, c.reason = fmt.Errorf("%v is in LoadBalancerPool %s as well, which is older", at, older.name), v1alpha1.ReasonOverlap
			}
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b *pool) int {
		switch {
		case a.selects() == b.selects():
			return 0
		case a.selects():
			return -1
		}
		return 1
	})
	return out
}

func compileOne(p *v1alpha1.LoadBalancerPool) *pool {
	c := &pool{name: p.Name, scope: p.Spec.EffectiveScope(), auto: p.Spec.AutoAssigns(), spaces: map[corev1.IPFamily]*space{}}
	ranges, err := p.Spec.Ranges()
	errs := []error{err}
	if len(ranges) == 0 && err == nil {
		errs = append(errs, errors.New("spec.addresses: there are none"))
	}
	if c.scope != v1alpha1.ScopePublic && c.scope != v1alpha1.ScopeInternal {
		errs = append(errs, fmt.Errorf("spec.scope: %q is neither %s nor %s", c.scope, v1alpha1.ScopePublic, v1alpha1.ScopeInternal))
	}
	c.services, err = selector("spec.serviceSelector", p.Spec.ServiceSelector)
	errs = append(errs, err)
	c.namespaces, err = selector("spec.namespaceSelector", p.Spec.NamespaceSelector)
	errs = append(errs, err)
	_, err = selector("spec.nodeSelector", p.Spec.NodeSelector)
	if c.problem = errors.Join(append(errs, err)...); c.problem != nil {
		c.reason = v1alpha1.ReasonMalformed
	}
	for _, r := range ranges {
		f := familyOf(r.First)
		if c.spaces[f] == nil {
			c.spaces[f] = &space{}
		}
		c.spaces[f].ranges = append(c.spaces[f].ranges, r)
	}
	for _, s := range c.spaces {
		s.ranges = apart(s.ranges)
		s.next = s.ranges[0].First
	}
	return c
}

func selector(path string, in *metav1.LabelSelector) (labels.Selector, error) {
	if in == nil {
		return nil, nil
	}
	out, err := metav1.LabelSelectorAsSelector(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// apart returns the same addresses as sorted ranges that have none in common.
func apart(in []v1alpha1.Range) []v1alpha1.Range {
	slices.SortFunc(in, func(a, b v1alpha1.Range) int { return a.First.Compare(b.First) })
	out := in[:1]
	for _, r := range in[1:] {
		switch last := &out[len(out)-1]; {
		case last.Last.Less(r.First):
			out = append(out, r)
		case last.Last.Less(r.Last):
			last.Last = r.Last
		}
	}
	return out
}

func (p *pool) selects() bool { return p.services != nil || p.namespaces != nil }

// overlaps returns addresses that both pools have.
func (p *pool) overlaps(other *pool) (v1alpha1.Range, bool) {
	for _, f := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		mine, theirs := p.spaces[f], other.spaces[f]
		if mine == nil || theirs == nil {
			continue
		}
		for _, a := range mine.ranges {
			for _, b := range theirs.ranges {
				if !a.Last.Less(b.First) && !b.Last.Less(a.First) {
					return v1alpha1.Range{First: later(a.First, b.First), Last: earlier(a.Last, b.Last)}, true
				}
			}
		}
	}
	return v1alpha1.Range{}, false
}

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func earlier(a, b netip.Addr) netip.Addr {
	if b.Less(a) {
		return b
	}
	return a
}

// contains says whether the pool has an address, ready or not.
func (p *pool) contains(a netip.Addr) bool {
	s := p.spaces[familyOf(a)]
	return s != nil && slices.ContainsFunc(s.ranges, func(r v1alpha1.Range) bool { return r.Contains(a) })
}

// lowest returns the lowest address that is not used.
func (s *space) lowest(used func(netip.Addr) bool) (netip.Addr, bool) {
	if s.full {
		return netip.Addr{}, false
	}
	for _, r := range s.ranges {
		if r.Last.Less(s.next) {
			continue
		}
		for a := later(r.First, s.next); ; a = a.Next() {
			if !used(a) {
				s.next = a
				return a, true
			}
			if a == r.Last {
				break
			}
		}
	}
	s.full = true
	return netip.Addr{}, false
}

// freed notes that an address is used no more.
func (p *pool) freed(a netip.Addr) {
	s := p.spaces[familyOf(a)]
	if s == nil || !p.contains(a) {
		return
	}
	if s.full || a.Less(s.next) {
		s.next, s.full = a, false
	}
}

// size returns how many addresses there are.
func (s *space) size() *big.Int {
	sum := new(big.Int)
	for _, r := range s.ranges {
		n := new(big.Int).Sub(number(r.Last), number(r.First))
		sum.Add(sum, n.Add(n, big.NewInt(1)))
	}
	return sum
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }
