package pool

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// decision is a verdict, and whether there is nothing more that the Service could
// get.
type decision struct {
	Verdict
	met bool
}

// decide gives a Service what it can get now.
func (a *Allocator) decide(t *tenant) decision {
	v := Verdict{UID: t.uid, Ours: t.ours}
	switch {
	case !t.ours && t.unserved:
		v.Reason, v.Message = v1alpha1.ReasonUnknownClass, t.class
		return decision{v, true}
	case !t.ours:
		return decision{v, true}
	case t.problem != nil:
		v.Addresses, v.Reason, v.Message = t.held, v1alpha1.ReasonInvalidRequest, inOneLine(t.problem)
		if len(t.held) > 0 {
			v.Message += fmt.Sprintf("; it keeps %v meanwhile", t.held[0])
		}
		return decision{v, true}
	}
	refused := a.place(t)
	v.Addresses = t.held
	v.Satisfied, v.Reason, v.Message = a.summary(t, refused)
	return decision{v, len(refused) == 0}
}

// place gives a Service the addresses that it can get, and returns for which
// families it does not get what it asks for. If it needs all families it gets
// none as long as it cannot get all, but what it has stays.
func (a *Allocator) place(t *tenant) map[corev1.IPFamily]refusal {
	refused := map[corev1.IPFamily]refusal{}
	var got []netip.Addr
	var beside *pool
	for _, f := range t.families {
		had := t.heldOf(f)
		at, no := a.pick(t, f, had, beside)
		if no != nil {
			refused[f] = *no
			at = had
		}
		if at.IsValid() {
			got = append(got, at)
			beside = a.readyPoolOf(at)
		}
	}
	if t.all && len(got) < len(t.families) {
		return refused
	}
	a.hold(t, got)
	return refused
}

func (t *tenant) heldOf(f corev1.IPFamily) netip.Addr {
	for _, at := range t.held {
		if familyOf(at) == f {
			return at
		}
	}
	return netip.Addr{}
}

// summary puts in words what a Service has got.
func (a *Allocator) summary(t *tenant, refused map[corev1.IPFamily]refusal) (satisfied bool, reason, message string) {
	for _, f := range t.families {
		no, is := refused[f]
		switch has := t.heldOf(f); {
		case !is:
		case has.IsValid():
			return false, no.reason, fmt.Sprintf("%s; it keeps %v meanwhile", no.message, has)
		case t.all || len(t.held) == 0:
			return false, no.reason, no.message
		}
	}
	for _, at := range t.held {
		if a.anyPoolOf(at) == nil {
			return true, v1alpha1.ReasonKept, fmt.Sprintf("%v is in no LoadBalancerPool any more; it is kept until the Service gives it up", at)
		}
	}
	var words []string
	for _, at := range t.held {
		words = append(words, fmt.Sprintf("%v of LoadBalancerPool %s", at, a.anyPoolOf(at).name))
	}
	for _, f := range t.families {
		if no, is := refused[f]; is {
			words = append(words, fmt.Sprintf("no %s address: %s", f, no.message))
		}
	}
	return true, v1alpha1.ReasonAssigned, strings.Join(words, "; ")
}

// readyPoolOf returns the pool that has an address and is ready, or nil.
func (a *Allocator) readyPoolOf(at netip.Addr) *pool {
	for _, p := range a.pools {
		if p.problem == nil && p.contains(at) {
			return p
		}
	}
	return nil
}

// anyPoolOf returns a pool that has an address, a ready one if there is one.
func (a *Allocator) anyPoolOf(at netip.Addr) *pool {
	if p := a.readyPoolOf(at); p != nil {
		return p
	}
	if i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.contains(at) }); i >= 0 {
		return a.pools[i]
	}
	return nil
}

// pick returns the address that a Service is to have in one family: had, the one
// that it has, if that is as good.
func (a *Allocator) pick(t *tenant, f corev1.IPFamily, had netip.Addr, beside *pool) (netip.Addr, *refusal) {
	if want, is := t.asked[f]; is {
		if want == had {
			return had, nil
		}
		if no := a.refuse(t, want); no != nil {
			return netip.Addr{}, no
		}
		return want, nil
	}
	if had.IsValid() && (len(t.pools) == 0 || a.inAsked(t, had)) {
		return had, nil
	}
	fit, no := a.fitting(t, f)
	if no != nil {
		return netip.Addr{}, no
	}
	if at, ok := a.join(t, f, fit); ok {
		return at, nil
	}
	if i := slices.Index(fit, beside); i > 0 {
		fit = slices.Concat([]*pool{beside}, fit[:i], fit[i+1:])
	}
	for _, p := range fit {
		if at, ok := p.spaces[f].lowest(a.used); ok {
			return at, nil
		}
	}
	return netip.Addr{}, &refusal{v1alpha1.ReasonPoolExhausted, fmt.Sprintf("no %s address is free in %s", f, named(fit))}
}

func (a *Allocator) used(at netip.Addr) bool { return len(a.holders[at]) > 0 }

// inAsked says whether one of the pools that a Service names has an address.
func (a *Allocator) inAsked(t *tenant, at netip.Addr) bool {
	p := a.anyPoolOf(at)
	return p != nil && slices.Contains(t.pools, p.name)
}

// refuse returns why a Service cannot have the address that it asks for, or nil.
func (a *Allocator) refuse(t *tenant, want netip.Addr) *refusal {
	p := a.anyPoolOf(want)
	if p == nil {
		if len(a.pools) == 0 {
			return a.noPool()
		}
		return &refusal{v1alpha1.ReasonAddressOutsidePools, fmt.Sprintf("%v is in no LoadBalancerPool", want)}
	}
	if p.problem != nil {
		return notReady(p)
	}
	if why := a.unfit(t, p); why != "" {
		return &refusal{v1alpha1.ReasonAddressNotAllowed, fmt.Sprintf("%v is of LoadBalancerPool %s, which %s", want, p.name, why)}
	}
	var first *tenant
	for _, other := range a.holders[want] {
		if other != t && t.clash(&other.sharing) != "" && (first == nil || other.compare(&first.request) < 0) {
			first = other
		}
	}
	if first != nil {
		return &refusal{v1alpha1.ReasonAddressTaken, fmt.Sprintf("%v is taken by Service %v, %s", want, first.key, t.clash(&first.sharing))}
	}
	return nil
}

// join returns the lowest address that others have with whom the Service shares.
func (a *Allocator) join(t *tenant, f corev1.IPFamily, fit []*pool) (netip.Addr, bool) {
	var best netip.Addr
	for other := range a.keys[t.share] {
		at := other.heldOf(f)
		if other == t || !at.IsValid() || best.IsValid() && !at.Less(best) || !slices.Contains(fit, a.readyPoolOf(at)) {
			continue
		}
		if !slices.ContainsFunc(a.holders[at], func(h *tenant) bool { return h != t && t.clash(&h.sharing) != "" }) {
			best = at
		}
	}
	return best, best.IsValid()
}

// fitting returns the pools that may give a Service an address of a family, in
// order, or why there are none.
func (a *Allocator) fitting(t *tenant, f corev1.IPFamily) ([]*pool, *refusal) {
	if len(a.pools) == 0 {
		return nil, a.noPool()
	}
	pools := a.pools
	var whys []string
	if len(t.pools) > 0 {
		pools = nil
		for _, name := range t.pools {
			i := slices.IndexFunc(a.pools, func(p *pool) bool { return p.name == name })
			if i < 0 {
				whys = append(whys, name+" does not exist")
				continue
			}
			pools = append(pools, a.pools[i])
		}
	}
	var fit, broken []*pool
	for _, p := range pools {
		why := a.unfit(t, p)
		switch {
		case why == "" && p.spaces[f] == nil && p.problem == nil:
			whys = append(whys, fmt.Sprintf("%s has no %s addresses", p.name, f))
		case why == "" && !p.auto && len(t.pools) == 0:
			whys = append(whys, p.name+" gives addresses only to who asks for them")
		case why == "" && p.problem != nil:
			broken = append(broken, p)
		case why == "":
			fit = append(fit, p)
		default:
			whys = append(whys, p.name+" "+why)
		}
	}
	switch {
	case len(fit) > 0:
		return fit, nil
	case len(broken) > 0:
		return nil, notReady(broken[0])
	}
	const most = 5 // who has fifty pools does not want to read of all
	if more := len(whys) - most; more > 0 {
		whys = append(whys[:most], fmt.Sprintf("and %d more", more))
	}
	return nil, &refusal{v1alpha1.ReasonNoPool, "no LoadBalancerPool is for it: " + strings.Join(whys, "; ")}
}

// unfit returns why a pool gives a Service no address at all, or "".
func (a *Allocator) unfit(t *tenant, p *pool) string {
	switch {
	case p.scope != t.scope && t.scope == v1alpha1.ScopeInternal:
		return "is public, and the Service asks for an internal load balancer"
	case p.scope != t.scope:
		return "is internal, and the Service does not ask for that"
	case len(t.pools) > 0 && !slices.Contains(t.pools, p.name):
		return "is none of those that the Service asks for"
	case p.services != nil && !p.services.Matches(t.labels):
		return "selects other Services"
	case p.namespaces != nil:
		if has, known := a.namespaces[t.key.Namespace]; !known || !p.namespaces.Matches(has) {
			return "selects other namespaces"
		}
	}
	return ""
}

func (a *Allocator) noPool() *refusal {
	if !a.installed {
		return &refusal{v1alpha1.ReasonNoPool, "the kind LoadBalancerPool is not installed in this cluster: apply config/default/load-balancer-pools.yaml"}
	}
	return &refusal{v1alpha1.ReasonNoPool, "there is no LoadBalancerPool"}
}

func notReady(p *pool) *refusal {
	return &refusal{v1alpha1.ReasonPoolNotReady, fmt.Sprintf("LoadBalancerPool %s is not ready: %s", p.name, inOneLine(p.problem))}
}

func named(pools []*pool) string {
	var names []string
	for _, p := range pools {
		names = append(names, p.name)
	}
	if len(names) == 1 {
		return "LoadBalancerPool " + names[0]
	}
	return "LoadBalancerPools " + strings.Join(names, ", ")
}

// inOneLine writes several errors as a message has them.
func inOneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
