package plan

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netutils "k8s.io/utils/net"
)

// MirrorManager is the value of the label endpointslice.kubernetes.io/managed-by
// of slices that mirror an Endpoints.
const MirrorManager = "endpointslicemirroring-controller.k8s.io"

// MirrorInput is all that a Mirror depends on. Nothing in it is changed.
type MirrorInput struct {
	// Service and Endpoints are those of the name in question, or nil.
	Service   *corev1.Service
	Endpoints *corev1.Endpoints
	// Slices are EndpointSlices that bear the name as label, by whomever they are
	// managed, in any order.
	Slices []*discoveryv1.EndpointSlice
}

// Mirror is what to write so that the slices say what the Endpoints says.
type Mirror struct {
	// Writes are sorted by Phase.
	Writes []Write
	// Invalid is how many addresses are left out because they are none, and
	// Skipped how many in all, with those that are too many for their subset.
	Invalid, Skipped int
}

// MakeMirror plans the slices that mirror an Endpoints that somebody else writes:
// one for each of its subsets and families, with at most maxPerSubset endpoints,
// which is at least 1. If nothing is to be mirrored, it deletes the slices.
func MakeMirror(in MirrorInput, maxPerSubset int) Mirror {
	m := &mirror{
		planner: &planner{Input: Input{Service: in.Service, Endpoints: in.Endpoints, Slices: in.Slices}},
		max:     max(1, maxPerSubset), groups: map[mirrorKey]*mirrorGroup{}, should: addressStates{},
	}
	if in.Service != nil && IsForMirroring(in.Service) && isMirrored(in.Endpoints) {
		m.labels, m.annotations = mirrorLabels(in.Endpoints), mirrorAnnotations(in.Endpoints)
		m.want()
	}
	m.write()
	slices.SortStableFunc(m.plan.Writes, func(a, b Write) int { return cmp.Compare(a.Phase, b.Phase) })
	m.result.Writes = m.plan.Writes
	return m.result
}

// IsForMirroring says whether somebody else publishes the endpoints of a Service
// in an Endpoints. An ExternalName has none, whatever was written for it before.
func IsForMirroring(svc *corev1.Service) bool {
	return len(svc.Spec.Selector) == 0 && svc.Spec.Type != corev1.ServiceTypeExternalName
}

// IsMirror says whether a slice is one that mirrors an Endpoints.
func IsMirror(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelManagedBy] == MirrorManager
}

// isMirrored says whether slices should say what an Endpoints says. Not if its
// owner does not want that, as the API server, which writes slices itself; and
// not what the controllers left behind when a selector was removed: nobody would
// ever correct those addresses (kubernetes/kubernetes#118376).
func isMirrored(e *corev1.Endpoints) bool {
	return e != nil && !isLock(e) && e.Labels[discoveryv1.LabelSkipMirror] != "true" && !isAbandoned(e)
}

// mirror plans the slices of one Endpoints.
type mirror struct {
	*planner
	max                 int
	labels, annotations map[string]string
	groups              map[mirrorKey]*mirrorGroup
	should              addressStates
	result              Mirror
}

// mirrorKey says which endpoints share a slice.
type mirrorKey struct {
	addressType discoveryv1.AddressType
	ports       portKey
}

func (k mirrorKey) compare(o mirrorKey) int {
	return cmp.Or(cmp.Compare(k.addressType, o.addressType), cmp.Compare(k.ports, o.ports))
}

// mirrorGroup is what one slice should have.
type mirrorGroup struct {
	ports     []discoveryv1.EndpointPort
	endpoints map[endpointKey]discoveryv1.Endpoint
	addresses addressStates
}

// want collects what should be published, from subsets in their canonical form:
// so it does not depend on how somebody has split them.
func (m *mirror) want() {
	for _, s := range repack(m.Endpoints.Subsets) {
		ports := mirrorPorts(s.Ports)
		taken := 0
		for i := range s.Addresses {
			taken += m.take(&s.Addresses[i], true, ports, taken)
		}
		for i := range s.NotReadyAddresses {
			taken += m.take(&s.NotReadyAddresses[i], false, ports, taken)
		}
		m.result.Skipped += len(s.Addresses) + len(s.NotReadyAddresses) - taken
	}
}

// take adds an address to its group, unless taken ones are enough, and says how
// many it took.
func (m *mirror) take(a *corev1.EndpointAddress, ready bool, ports []discoveryv1.EndpointPort, taken int) int {
	if taken >= m.max {
		return 0
	}
	e, addressType, ok := mirrorEndpoint(a, ready)
	if !ok {
		m.result.Invalid++
		return 0
	}
	key := mirrorKey{addressType, portKeyOf(ports)}
	g := m.groups[key]
	if g == nil {
		g = &mirrorGroup{ports, map[endpointKey]discoveryv1.Endpoint{}, addressStates{}}
		m.groups[key] = g
	}
	g.endpoints[keyOf(&e)] = e
	g.addresses.note(&e)
	m.should.note(&e)
	return 1
}

// mirrorEndpoint returns an address as an endpoint, or false if it is none. An
// Endpoints cannot say that an address terminates; that it is not ready means
// that it does not serve, which has to be said: the API reads silence as a yes.
func mirrorEndpoint(a *corev1.EndpointAddress, ready bool) (discoveryv1.Endpoint, discoveryv1.AddressType, bool) {
	ip := netutils.ParseIPSloppy(a.IP)
	if ip == nil {
		return discoveryv1.Endpoint{}, "", false
	}
	addressType := discoveryv1.AddressTypeIPv4
	if ip.To4() == nil {
		addressType = discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.Endpoint{
		Addresses:  []string{ip.String()},
		Conditions: discoveryv1.EndpointConditions{Ready: new(ready), Serving: new(ready), Terminating: new(false)},
		Hostname:   textOrNil(a.Hostname),
		TargetRef:  a.TargetRef,
		NodeName:   a.NodeName,
	}, addressType, true
}

// mirrorPorts never returns nil, which would mean all ports.
func mirrorPorts(in []corev1.EndpointPort) []discoveryv1.EndpointPort {
	out := make([]discoveryv1.EndpointPort, 0, len(in))
	for i := range in {
		p := &in[i]
		out = append(out, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.Port, Protocol: &p.Protocol, AppProtocol: p.AppProtocol})
	}
	return out
}

func mirrorLabels(e *corev1.Endpoints) map[string]string {
	out := make(map[string]string, len(e.Labels)+2)
	maps.Copy(out, e.Labels)
	out[discoveryv1.LabelServiceName] = e.Name
	out[discoveryv1.LabelManagedBy] = MirrorManager
	return out
}

// mirrorAnnotations leaves out what is only of the one object: the copy of it
// that kubectl keeps, and when its controller saw a change.
func mirrorAnnotations(e *corev1.Endpoints) map[string]string {
	out := maps.Clone(e.Annotations)
	delete(out, corev1.LastAppliedConfigAnnotation)
	delete(out, corev1.EndpointsLastChangeTriggerTime)
	return out
}

// write adds the writes. A slice whose ports nobody wants any more becomes that
// of other ports, if there is need for one.
func (m *mirror) write() {
	have, spares := m.sort()
	for _, key := range slices.SortedFunc(maps.Keys(m.groups), mirrorKey.compare) {
		g, s := m.groups[key], have[key]
		if s == nil {
			i := slices.IndexFunc(spares, func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == key.addressType && !m.swaps(s, g) })
			if i >= 0 {
				s = spares[i]
				spares = slices.Delete(spares, i, i+1)
			}
		}
		switch {
		case s == nil:
			m.create(key.addressType, g)
		case !m.isRight(s, key, g):
			m.update(s, g)
		}
	}
	for _, s := range spares {
		m.replace(s, nil, m.should)
	}
}

// update makes s what the group wants. If it swaps addresses with others, it has
// those of both for a while, lest two slices wait for each other.
func (m *mirror) update(s *discoveryv1.EndpointSlice, g *mirrorGroup) {
	next := m.slice(s, g)
	if !m.swaps(s, g) {
		m.replace(s, next, m.should)
		return
	}
	both := *next
	both.Endpoints = slices.Clone(next.Endpoints)
	for i := range s.Endpoints {
		if e := &s.Endpoints[i]; m.isGiven(e, g) && !m.should.worsens(e) {
			both.Endpoints = append(both.Endpoints, *e)
		}
	}
	if len(both.Endpoints) > mostEndpoints {
		m.replace(s, next, m.should)
		return
	}
	m.replace(s, &both, m.should)
	m.add(Update, Leftovers, next)
}

// mostEndpoints is how many the API allows in a slice.
const mostEndpoints = 1000

// swaps says whether s, as the slice of g, would have an address less that others
// should have, and one more or a better one.
func (m *mirror) swaps(s *discoveryv1.EndpointSlice, g *mirrorGroup) bool {
	gives := slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return m.isGiven(&e, g) })
	if !gives {
		return false
	}
	had := addressStates{}
	for i := range s.Endpoints {
		had.note(&s.Endpoints[i])
	}
	for a, should := range g.addresses {
		if is, published := had[a]; !published || is < should {
			return true
		}
	}
	return false
}

// isGiven says whether an endpoint is published, but not in g.
func (m *mirror) isGiven(e *discoveryv1.Endpoint, g *mirrorGroup) bool {
	_, published := m.should[e.Addresses[0]]
	_, stays := g.addresses[e.Addresses[0]]
	return published && !stays
}

// sort finds the slice that each group keeps, and those that none does. Of two
// slices with a group's ports it keeps the one that is right, else the first.
func (m *mirror) sort() (have map[mirrorKey]*discoveryv1.EndpointSlice, spares []*discoveryv1.EndpointSlice) {
	have = map[mirrorKey]*discoveryv1.EndpointSlice{}
	for _, s := range sortedSlices(m.Slices) {
		if !IsMirror(s) || s.DeletionTimestamp != nil {
			continue // not ours to touch, or on its way out already
		}
		key := mirrorKey{s.AddressType, portKeyOf(s.Ports)}
		g, is := m.groups[key], have[key]
		switch {
		case g != nil && is == nil:
			have[key] = s
		case g != nil && !m.isRight(is, key, g) && m.isRight(s, key, g):
			have[key], spares = s, append(spares, is)
		default:
			spares = append(spares, s)
		}
	}
	return have, spares
}

// isRight says whether a slice needs no write. The order of its ports and
// endpoints does not matter.
func (m *mirror) isRight(s *discoveryv1.EndpointSlice, key mirrorKey, g *mirrorGroup) bool {
	if portKeyOf(s.Ports) != key.ports || len(s.Endpoints) != len(g.endpoints) ||
		!maps.Equal(s.Labels, m.labels) || !maps.Equal(s.Annotations, m.annotations) || !m.isOwned(s) {
		return false
	}
	seen := make(map[endpointKey]bool, len(s.Endpoints))
	for i := range s.Endpoints {
		is, k := &s.Endpoints[i], keyOf(&s.Endpoints[i])
		want, ok := g.endpoints[k]
		if !ok || seen[k] || !sameMirrored(is, &want) {
			return false
		}
		seen[k] = true
	}
	return true
}

// sameMirrored says whether an endpoint needs no write; the keys are equal. The
// stock controller writes only whether it is ready; that is left alone where it
// means the same.
func sameMirrored(is, want *discoveryv1.Endpoint) bool {
	means := func(condition *bool, silence bool) bool {
		if condition == nil {
			return silence
		}
		return *condition
	}
	a, b := is.Conditions, want.Conditions
	return means(a.Ready, true) == *b.Ready && means(a.Serving, true) == *b.Serving && means(a.Terminating, false) == *b.Terminating &&
		equalPtr(is.NodeName, want.NodeName) && is.Zone == nil && is.Hints == nil && len(is.DeprecatedTopology) == 0 &&
		sameRef(is.TargetRef, want.TargetRef)
}

func (m *mirror) owner() *metav1.OwnerReference {
	return metav1.NewControllerRef(m.Endpoints, corev1.SchemeGroupVersion.WithKind("Endpoints"))
}

func (m *mirror) isOwned(s *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(s.OwnerReferences, func(o metav1.OwnerReference) bool {
		return equality.Semantic.DeepEqual(o, *m.owner())
	})
}

func (m *mirror) create(addressType discoveryv1.AddressType, g *mirrorGroup) {
	if m.Endpoints.DeletionTimestamp != nil {
		return // it would only be in the garbage collector's way
	}
	s := m.slice(&discoveryv1.EndpointSlice{AddressType: addressType}, g)
	s.Namespace, s.GenerateName = m.Endpoints.Namespace, namePrefix(m.Endpoints.Name)
	m.add(Create, Additions, s)
}

// slice returns a copy of s that has what the group wants.
func (m *mirror) slice(s *discoveryv1.EndpointSlice, g *mirrorGroup) *discoveryv1.EndpointSlice {
	next := *s
	next.Labels, next.Annotations = m.labels, m.annotations
	next.OwnerReferences = []metav1.OwnerReference{*m.owner()}
	next.Ports = g.ports
	next.Endpoints = make([]discoveryv1.Endpoint, 0, len(g.endpoints))
	for _, k := range slices.SortedFunc(maps.Keys(g.endpoints), compareKeys) {
		next.Endpoints = append(next.Endpoints, g.endpoints[k])
	}
	return &next
}
