package plan

import (
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// traffic is how much of it an address should get.
type traffic int

const (
	none     traffic = iota // published, and not for use
	fallback                // serves while it terminates
	full
)

func trafficOf(e *discoveryv1.Endpoint) traffic {
	switch {
	case isReady(e):
		return full
	case isServing(e):
		return fallback
	default:
		return none
	}
}

// addressStates has the addresses that should be published. Where two endpoints
// share an address, the better one counts.
type addressStates map[string]traffic

func (m addressStates) note(e *discoveryv1.Endpoint) {
	for _, a := range e.Addresses {
		m[a] = max(m[a], trafficOf(e))
	}
}

// worsens says whether an endpoint has an address that should get less traffic
// than the endpoint gives it, or should not be published at all.
func (m addressStates) worsens(e *discoveryv1.Endpoint) bool {
	return slices.ContainsFunc(e.Addresses, func(a string) bool {
		t, published := m[a]
		return !published || t < trafficOf(e)
	})
}

// replace adds the writes that make next of a slice, or delete it if next is nil.
// If the slice has both what has to go at once and what others will publish
// first, that takes two: one that only takes out the former, and the last.
func (p *planner) replace(is, next *discoveryv1.EndpointSlice, should addressStates) {
	verb, last := Update, Object(next)
	staying := addressStates{}
	if next == nil {
		verb, last = Delete, is
	} else {
		for i := range next.Endpoints {
			staying.note(&next.Endpoints[i])
		}
	}
	phase, pruned := Additions, []discoveryv1.Endpoint{}
	moves := false
	for i := range is.Endpoints {
		e := &is.Endpoints[i]
		if should.worsens(e) {
			phase = Removals
			continue
		}
		pruned = append(pruned, *e)
		if _, stays := staying[e.Addresses[0]]; !stays {
			moves = true
		}
	}
	switch {
	case moves && phase == Removals:
		first := *is
		first.Endpoints = pruned
		p.add(Update, Removals, &first)
		p.add(verb, Leftovers, last)
	case moves:
		p.add(verb, Leftovers, last)
	default:
		p.add(verb, phase, last)
	}
}
