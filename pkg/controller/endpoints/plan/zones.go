package plan

import (
	"fmt"
	"maps"
	"math"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/endpointslice/topologycache"
)

// overload is how much more than its share of the traffic an endpoint may get:
// upstream's threshold.
const overload = 0.2

// quota is how many endpoints a zone should get.
type quota struct {
	// minimum is what keeps the overload in bounds. If all zones have theirs, no
	// zone has too many.
	minimum int
	desired float64
}

// quotas returns what each zone should have of n endpoints, or why that cannot
// be: in upstream's words, and by its arithmetic.
func quotas(cpu map[string]int64, n int) (map[string]quota, string) {
	total := int64(0)
	for _, c := range cpu {
		total += c
	}
	switch {
	case total == 0:
		return nil, topologycache.InsufficientNodeInfo
	case len(cpu) < 2:
		return nil, topologycache.NodesReadyInOneZoneOnly
	case len(cpu) > n:
		return nil, fmt.Sprintf("%s (%d endpoints, %d zones)", topologycache.InsufficientNumberOfEndpoints, n, len(cpu))
	}
	out, left := map[string]quota{}, n
	for zone, c := range cpu {
		desired := float64(c) / float64(total) * float64(n)
		minimum := int(math.Ceil(desired * (1 / (1 + overload))))
		out[zone] = quota{minimum, math.Max(desired, float64(minimum))}
		left -= minimum
	}
	if left < 0 {
		return nil, fmt.Sprintf("%s (%d endpoints, %d zones)", topologycache.MinAllocationExceedsOverloadThreshold, n, len(cpu))
	}
	return out, ""
}

// hintByZones gives the endpoints that are ready to the zones. It decides when
// upstream's topologycache would, and what it decides is within the same bounds;
// but it goes by the slices alone instead of the memory of a process, does the
// same twice, and reaches the bounds, so that the next plan finds nothing to
// improve (kubernetes/kubernetes#114215).
func (f *familyPlan) hintByZones() {
	if !f.byZones {
		return
	}
	ready, unzoned := 0, false
	for _, b := range f.bins {
		for i := range b.endpoints {
			if e := &b.endpoints[i]; isReady(e) {
				ready++
				unzoned = unzoned || e.Zone == nil
			}
		}
	}
	want, why := quotas(f.ZoneCPU, ready)
	if why == "" && unzoned {
		why = topologycache.NoZoneSpecified
	}
	if why != "" {
		f.unhinted(why)
		for _, b := range f.bins {
			b.hint(nil)
		}
		return
	}
	if h := newZoneHints(want, f.bins, false); h.reach() {
		h.apply()
		return
	}
	h := newZoneHints(want, f.bins, true)
	h.reach()
	h.apply()
}

// hint gives each endpoint the hint to the zone that it has in zones, or none.
func (b *bin) hint(zones map[*discoveryv1.Endpoint]string) {
	for i := range b.endpoints {
		e := &b.endpoints[i]
		var hints *discoveryv1.EndpointHints
		if zone, ok := zones[e]; ok {
			hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
		}
		if !sameHints(e.Hints, hints) {
			e.Hints, b.changed = hints, true
		}
	}
}

// zoneHints gives endpoints to zones: each to its own at first, then some from
// zones that have more than they need to zones that have less.
type zoneHints struct {
	want map[string]quota
	// zones are those that want or have endpoints, sorted: ties are decided by name.
	zones []string
	count map[string]int
	// open are the slices whose hints may be changed; movable has their endpoints
	// by the zone they are given to.
	open    []*bin
	movable map[string][]*discoveryv1.Endpoint
}

// newZoneHints leaves the hints of slices that need no write as they are where
// they will do, unless all should be done anew.
func newZoneHints(want map[string]quota, bins []*bin, anew bool) *zoneHints {
	h := &zoneHints{want: want, count: map[string]int{}, movable: map[string][]*discoveryv1.Endpoint{}}
	for _, b := range bins {
		if given, ok := b.zonesHinted(want); ok && !anew && !b.changed {
			for zone, n := range given {
				h.count[zone] += n
			}
			continue
		}
		h.open = append(h.open, b)
		for i := range b.endpoints {
			if e := &b.endpoints[i]; isReady(e) {
				h.count[*e.Zone]++
				h.movable[*e.Zone] = append(h.movable[*e.Zone], e)
			}
		}
	}
	zones := maps.Clone(h.count)
	for zone := range want {
		zones[zone] = 0
	}
	h.zones = slices.Sorted(maps.Keys(zones))
	return h
}

// zonesHinted counts the hints of a slice by zone, or returns false if they are
// not what zoneHints would write.
func (b *bin) zonesHinted(want map[string]quota) (map[string]int, bool) {
	out := map[string]int{}
	for i := range b.endpoints {
		e := &b.endpoints[i]
		switch {
		case !isReady(e) && e.Hints == nil:
			continue
		case !isReady(e), e.Hints == nil, len(e.Hints.ForZones) != 1, len(e.Hints.ForNodes) != 0:
			return nil, false
		}
		zone := e.Hints.ForZones[0].Name
		if _, ok := want[zone]; !ok {
			return nil, false
		}
		out[zone]++
	}
	return out, true
}

// reach moves endpoints until every zone has what it should, and says whether
// that could be done with the open slices alone.
func (h *zoneHints) reach() bool {
	for h.balance() {
	}
	for {
		to, short := h.neediest()
		from, spare := h.richest()
		switch {
		case !short && !h.strayed():
			return true
		case !spare:
			return false
		}
		h.move(from, to)
	}
}

// balance makes one move towards what the zones desire, by upstream's rules for
// when that is worth it.
func (h *zoneHints) balance() bool {
	from, to, surplus, deficit := "", "", 0.0, 0.0
	for _, zone := range h.zones {
		if s := float64(h.count[zone]) - h.want[zone].desired; s > surplus && len(h.movable[zone]) > 0 {
			from, surplus = zone, s
		} else if -s > deficit {
			to, deficit = zone, -s
		}
	}
	if surplus < 0.5 || deficit < 0.5 || (surplus < 1 && deficit < 1) {
		return false
	}
	h.move(from, to)
	return true
}

// neediest returns the zone that lacks most of its minimum, or, if none does,
// the one that lacks most of what it desires, and false.
func (h *zoneHints) neediest() (zone string, short bool) {
	most := math.Inf(-1)
	for _, z := range h.zones {
		q, ok := h.want[z]
		if !ok {
			continue
		}
		lacksMinimum := h.count[z] < q.minimum
		if lacks := q.desired - float64(h.count[z]); (lacksMinimum && !short) || (lacksMinimum == short && lacks > most) {
			zone, short, most = z, lacksMinimum, lacks
		}
	}
	return zone, short
}

// richest returns the zone that can best do without an endpoint: one that has no
// nodes to serve, else the one furthest above what it desires.
func (h *zoneHints) richest() (zone string, found bool) {
	most := math.Inf(-1)
	for _, z := range h.zones {
		q, served := h.want[z]
		if len(h.movable[z]) == 0 || h.count[z] <= q.minimum {
			continue
		}
		surplus := float64(h.count[z]) - q.desired
		if !served {
			surplus = math.Inf(1)
		}
		if !found || surplus > most {
			zone, found, most = z, true, surplus
		}
	}
	return zone, found
}

// strayed says whether an endpoint is given to a zone that has no nodes to serve.
func (h *zoneHints) strayed() bool {
	return slices.ContainsFunc(h.zones, func(zone string) bool {
		_, served := h.want[zone]
		return !served && h.count[zone] > 0
	})
}

func (h *zoneHints) move(from, to string) {
	e := h.movable[from][0]
	h.movable[from] = h.movable[from][1:]
	h.movable[to] = append(h.movable[to], e)
	h.count[from]--
	h.count[to]++
}

func (h *zoneHints) apply() {
	zones := map[*discoveryv1.Endpoint]string{}
	for zone, endpoints := range h.movable {
		for _, e := range endpoints {
			zones[e] = zone
		}
	}
	for _, b := range h.open {
		b.hint(zones)
	}
}
