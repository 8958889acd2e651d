package pool

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// Allocator decides which addresses Services get. It is for one goroutine at a
// time.
type Allocator struct {
	unclassed  bool
	installed  bool
	pools      []*pool
	namespaces map[string]labels.Set
	services   map[Key]*tenant
	// holders are the Services that have an address: more than one only if they
	// share it, or until the next Settle.
	holders map[netip.Addr][]*tenant
	// keys are the Services with a key to share by.
	keys map[string]map[*tenant]struct{}
	// changed have to be looked at, and unmet are those without something that they
	// ask for, who are looked at each time.
	changed, unmet map[*tenant]struct{}
}

// tenant is a Service of type LoadBalancer.
type tenant struct {
	request
	held    []netip.Addr
	verdict Verdict
}

// New returns an Allocator that knows of nothing. unclassed says that Services
// without a loadBalancerClass are given addresses as well.
func New(unclassed bool) *Allocator {
	return &Allocator{
		unclassed:  unclassed,
		namespaces: map[string]labels.Set{},
		services:   map[Key]*tenant{},
		holders:    map[netip.Addr][]*tenant{},
		keys:       map[string]map[*tenant]struct{}{},
		changed:    map[*tenant]struct{}{},
		unmet:      map[*tenant]struct{}{},
	}
}

// SetPools replaces all pools. installed false says that there is no such kind in
// the cluster. The pools are not changed, and not kept.
func (a *Allocator) SetPools(pools []*v1alpha1.LoadBalancerPool, installed bool) {
	a.pools, a.installed = compile(pools), installed
	for _, t := range a.services {
		a.changed[t] = struct{}{}
	}
}

// SetNamespace takes in the labels of a namespace, which must not change
// afterwards. They count for what is given out from now on.
func (a *Allocator) SetNamespace(name string, has map[string]string) {
	a.namespaces[name] = has
}

// DeleteNamespace forgets a namespace.
func (a *Allocator) DeleteNamespace(name string) { delete(a.namespaces, name) }

// SetService takes in a Service, which must not change afterwards. When it is the
// first time, the addresses of its status are those that it has; later on only if
// it is not ours. One without a class that has an address of somebody else is not
// ours. One of another type is forgotten.
func (a *Allocator) SetService(svc *corev1.Service) {
	key := Key{Namespace: svc.Namespace, Name: svc.Name}
	r, ok := read(svc, a.unclassed)
	t := a.services[key]
	if t != nil && (!ok || t.uid != svc.UID || t.ours != r.ours) {
		a.DeleteService(key)
		t = nil
	}
	if !ok {
		return
	}
	if t == nil {
		t = &tenant{}
		a.services[key] = t
	} else {
		a.unshare(t)
	}
	known := t.uid != ""
	t.request = r
	if t.share != "" {
		if a.keys[t.share] == nil {
			a.keys[t.share] = map[*tenant]struct{}{}
		}
		a.keys[t.share][t] = struct{}{}
	}
	if !t.ours || !known {
		a.hold(t, t.published)
	}
	a.changed[t] = struct{}{}
}

// DeleteService forgets a Service. Its addresses are free at once.
func (a *Allocator) DeleteService(key Key) {
	t := a.services[key]
	if t == nil {
		return
	}
	a.hold(t, nil)
	a.unshare(t)
	delete(a.services, key)
	delete(a.changed, t)
	delete(a.unmet, t)
}

func (a *Allocator) unshare(t *tenant) {
	delete(a.keys[t.share], t)
	if len(a.keys[t.share]) == 0 {
		delete(a.keys, t.share)
	}
}

// Verdict returns what was decided last about a Service; false if it is not of
// type LoadBalancer or there was no Settle since it was first set.
func (a *Allocator) Verdict(key Key) (Verdict, bool) {
	t := a.services[key]
	if t == nil || t.verdict.UID == "" {
		return Verdict{}, false
	}
	return t.verdict, true
}

// Pending counts the Services that are ours and not satisfied, by reason.
func (a *Allocator) Pending() map[string]int {
	out := map[string]int{}
	for _, t := range a.services {
		if t.ours && t.verdict.UID != "" && !t.verdict.Satisfied {
			out[t.verdict.Reason]++
		}
	}
	return out
}

// Settle decides, and returns the Services of which the verdict is another than
// before, sorted.
func (a *Allocator) Settle() []Key {
	look := a.changed
	a.changed = map[*tenant]struct{}{}
	for t := range look {
		a.giveUp(t)
	}
	a.part(look)
	maps.Copy(look, a.unmet)
	inOrder := slices.SortedFunc(maps.Keys(look), func(x, y *tenant) int {
		return cmp.Or(cmp.Compare(len(y.asked), len(x.asked)), x.compare(&y.request))
	})
	decisions := map[*tenant]decision{}
	// What one gives up another one may have waited for.
	for open, again := inOrder, true; again; {
		again = false
		var left []*tenant
		for _, t := range open {
			held := t.held
			decisions[t] = a.decide(t)
			again = again || !slices.Equal(held, t.held)
			if !decisions[t].met {
				left = append(left, t)
			}
		}
		open = left
	}
	return a.publish(decisions, inOrder)
}

// publish takes in decisions, and returns which are news.
func (a *Allocator) publish(decisions map[*tenant]decision, inOrder []*tenant) []Key {
	var news []Key
	for _, t := range inOrder {
		d := decisions[t]
		if !d.equal(&t.verdict) {
			news = append(news, t.key)
		}
		t.verdict = d.Verdict
		delete(a.unmet, t)
		if !d.met {
			a.unmet[t] = struct{}{}
		}
	}
	slices.SortFunc(news, func(x, y Key) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return news
}

// giveUp takes from a Service what it does not want any more.
func (a *Allocator) giveUp(t *tenant) {
	if !t.ours {
		return
	}
	var keep []netip.Addr
	seen := map[corev1.IPFamily]bool{}
	for _, at := range t.held {
		f := familyOf(at)
		p := a.readyPoolOf(at)
		elsewhere := t.problem == nil && p != nil && p.scope != t.scope
		if !slices.Contains(t.families, f) || seen[f] || elsewhere {
			continue
		}
		seen[f] = true
		keep = append(keep, at)
	}
	a.hold(t, keep)
}

// part takes from younger Services the addresses that they cannot have together
// with older ones, and adds those to the ones to look at.
func (a *Allocator) part(look map[*tenant]struct{}) {
	addresses := map[netip.Addr]struct{}{}
	for t := range look {
		for _, at := range t.held {
			addresses[at] = struct{}{}
		}
	}
	for at := range addresses {
		if len(a.holders[at]) < 2 {
			continue
		}
		var stay []*tenant
		for _, t := range slices.SortedFunc(slices.Values(a.holders[at]), func(x, y *tenant) int { return x.compare(&y.request) }) {
			if !t.ours || !slices.ContainsFunc(stay, func(s *tenant) bool { return t.clash(&s.sharing) != "" }) {
				stay = append(stay, t)
				continue
			}
			a.hold(t, slices.DeleteFunc(slices.Clone(t.held), func(x netip.Addr) bool { return x == at }))
			look[t] = struct{}{}
		}
	}
}

// hold makes these the addresses that a Service has.
func (a *Allocator) hold(t *tenant, addresses []netip.Addr) {
	for _, at := range t.held {
		if slices.Contains(addresses, at) {
			continue
		}
		left := slices.DeleteFunc(a.holders[at], func(x *tenant) bool { return x == t })
		a.holders[at] = left
		if len(left) > 0 {
			continue
		}
		delete(a.holders, at)
		for _, p := range a.pools {
			p.freed(at)
		}
	}
	for _, at := range addresses {
		if !slices.Contains(t.held, at) {
			a.holders[at] = append(a.holders[at], t)
		}
	}
	if t.held = addresses; len(addresses) == 0 {
		t.held = nil
	}
}
