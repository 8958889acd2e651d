package plan

import (
	"cmp"
	"maps"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// bin is a slice that will have endpoints.
type bin struct {
	// is the slice as it exists, or nil for one to create.
	is        *discoveryv1.EndpointSlice
	group     *group
	endpoints []discoveryv1.Endpoint
	// changed says that the endpoints or ports are not what they were, gives that
	// another slice gets some of them.
	changed, gives bool
}

// pack puts the wanted endpoints into slices with few writes, as upstream does:
// each endpoint stays where it is; what is new goes into slices that are written
// anyway, else all of it into the one that it fills best, else into new ones.
// Slices are never balanced for their own sake, since each write goes to every
// node of the cluster.
func (f *familyPlan) pack(existing []*discoveryv1.EndpointSlice) {
	var orphans []*discoveryv1.EndpointSlice // of ports that nobody has now
	for _, s := range existing {
		if g := f.groups[portKeyOf(s.Ports)]; g != nil {
			f.keep(s, g, false)
		} else {
			orphans = append(orphans, s)
		}
	}
	for _, s := range orphans {
		f.keep(s, f.heir(s), true)
	}
	for _, key := range slices.Sorted(maps.Keys(f.groups)) {
		f.place(f.groups[key])
	}
}

// heir finds the group that takes a slice over when its ports are no longer
// wanted: the one that all of its endpoints are in now. So the change of a
// Service's port rewrites each slice once, and moves no address.
func (f *familyPlan) heir(s *discoveryv1.EndpointSlice) *group {
	var heir *group
	for i := range s.Endpoints {
		key := keyOf(&s.Endpoints[i])
		g := f.groupOf[key]
		if g == nil {
			continue // of no interest, wherever it is
		}
		if _, unplaced := g.unplaced[key]; !unplaced || (heir != nil && heir != g) {
			return nil
		}
		heir = g
	}
	return heir
}

// keep leaves in a slice what of group g is in it. A slice that loses endpoints
// to other slices is a giver: it can be written only after those, so it gets no
// endpoints in this plan, lest two slices wait for each other.
func (f *familyPlan) keep(s *discoveryv1.EndpointSlice, g *group, changed bool) {
	b := &bin{is: s, group: g, changed: changed, endpoints: make([]discoveryv1.Endpoint, 0, len(s.Endpoints))}
	for i := range s.Endpoints {
		if key := keyOf(&s.Endpoints[i]); !f.keepOne(b, key, &s.Endpoints[i]) {
			b.changed = true
			b.gives = b.gives || f.groupOf[key] != nil
		}
	}
	switch {
	case len(b.endpoints) > 0:
		f.bins = append(f.bins, b)
	case b.gives:
		f.givers = append(f.givers, s)
	default:
		f.spares = append(f.spares, s)
	}
}

// keepOne puts the endpoint into b if it belongs there and is in no slice yet.
func (f *familyPlan) keepOne(b *bin, key endpointKey, is *discoveryv1.Endpoint) bool {
	if b.group == nil {
		return false
	}
	w, ok := b.group.unplaced[key]
	if !ok {
		return false
	}
	delete(b.group.unplaced, key)
	if sameEndpoint(is, &w.endpoint) && (f.byZones || sameHints(is.Hints, w.endpoint.Hints)) {
		b.endpoints = append(b.endpoints, *is)
		return true
	}
	b.changed = true
	b.endpoints = append(b.endpoints, w.endpoint)
	if !sameConditions(is, &w.endpoint) {
		f.podChanged(w.pod)
	}
	return true
}

// place finds a slice for each endpoint of g that has none.
func (f *familyPlan) place(g *group) {
	keys := slices.SortedFunc(maps.Keys(g.unplaced), compareKeys)
	for _, b := range f.binsBySize(g, true) {
		keys = f.fill(b, keys)
	}
	for len(keys) > 0 {
		keys = f.fill(f.binFor(g, len(keys)), keys)
	}
}

// binFor returns a bin for the last n endpoints of g: an unchanged slice if all
// of them fit, or an existing slice that has become empty, or a new one.
func (f *familyPlan) binFor(g *group, n int) *bin {
	for _, b := range f.binsBySize(g, false) {
		if len(b.endpoints)+n <= f.maxPerSlice {
			return b
		}
	}
	b := &bin{group: g}
	if len(f.spares) > 0 {
		b.is, f.spares = f.spares[0], f.spares[1:]
	}
	f.bins = append(f.bins, b)
	return b
}

// binsBySize returns the bins of g that are changed, or those that are not, the
// fullest first.
func (f *familyPlan) binsBySize(g *group, changed bool) []*bin {
	var out []*bin
	for _, b := range f.bins {
		if b.group == g && b.changed == changed && !b.gives {
			out = append(out, b)
		}
	}
	slices.SortStableFunc(out, func(a, b *bin) int { return cmp.Compare(len(b.endpoints), len(a.endpoints)) })
	return out
}

// fill puts as many of the endpoints into b as it takes, and returns the rest.
func (f *familyPlan) fill(b *bin, keys []endpointKey) []endpointKey {
	n := min(len(keys), max(0, f.maxPerSlice-len(b.endpoints)))
	for _, key := range keys[:n] {
		w := b.group.unplaced[key]
		b.endpoints = append(b.endpoints, w.endpoint)
		b.changed = true
		f.podChanged(w.pod)
	}
	return keys[n:]
}
