package plan

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netutils "k8s.io/utils/net"
)

// planSlices plans each family of the Service by itself, and deletes those
// managed slices that belong to none: of a family that the Service has not, or
// of an earlier Service of the same name.
func (p *planner) planSlices() {
	labels := sliceLabels(p.Service)
	byType := map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{}
	var foreign []*discoveryv1.EndpointSlice
	families := familiesOf(p.Service)
	for _, s := range sortedSlices(p.Slices) {
		switch {
		case !isOurs(s) || s.DeletionTimestamp != nil:
			// Not ours to touch, or on its way out already.
		case isOwnedBy(s, p.Service) && slices.Contains(families, corev1.IPFamily(s.AddressType)):
			byType[s.AddressType] = append(byType[s.AddressType], s)
		default:
			foreign = append(foreign, s)
		}
	}
	should := addressStates{}
	for _, family := range families {
		f := &familyPlan{planner: p, addressType: discoveryv1.AddressType(family), labels: labels, should: should, byZones: WantsZones(p.Service)}
		f.want(family)
		f.pack(byType[f.addressType])
		f.hintByZones()
		f.write()
	}
	for _, s := range foreign {
		p.replace(s, nil, should)
	}
}

// sortedSlices sorts by name, so that a plan does not depend on a cache's order,
// and two controllers that plan at once plan the same.
func sortedSlices(in []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	return slices.SortedFunc(slices.Values(in), func(a, b *discoveryv1.EndpointSlice) int {
		return strings.Compare(a.Name, b.Name)
	})
}

// familiesOf returns the Service's address families. The API server fills them
// in; an object from before it did tells by its cluster IP, or wants both.
func familiesOf(svc *corev1.Service) []corev1.IPFamily {
	switch ip := svc.Spec.ClusterIP; {
	case len(svc.Spec.IPFamilies) > 0:
		return svc.Spec.IPFamilies
	case ip == "" || ip == corev1.ClusterIPNone:
		return []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	case netutils.IsIPv6String(ip):
		return []corev1.IPFamily{corev1.IPv6Protocol}
	default:
		return []corev1.IPFamily{corev1.IPv4Protocol}
	}
}

// familyPlan plans the slices of one address family.
type familyPlan struct {
	*planner
	addressType discoveryv1.AddressType
	labels      map[string]string
	should      addressStates
	// byZones: the hints are decided only when the endpoints have their slices.
	byZones bool

	groups map[portKey]*group
	// groupOf finds the group of an endpoint that is wanted.
	groupOf map[endpointKey]*group
	// bins are the slices that will have endpoints, spares existing ones that
	// would have none.
	bins   []*bin
	spares []*discoveryv1.EndpointSlice
	// givers are slices to delete that have endpoints which are in a bin now. They
	// cannot be used again in this plan, see keep.
	givers []*discoveryv1.EndpointSlice
}

// group is the endpoints that have the same ports.
type group struct {
	ports []discoveryv1.EndpointPort
	// unplaced are the endpoints that have no slice yet.
	unplaced map[endpointKey]wanted
}

// want collects the endpoints that should be published, by their ports.
func (f *familyPlan) want(family corev1.IPFamily) {
	f.groups = map[portKey]*group{}
	f.groupOf = make(map[endpointKey]*group, len(f.Pods))
	all := make([]wanted, 0, len(f.Pods))
	for _, pod := range f.Pods {
		if w, ok := f.endpoint(pod, family); ok {
			all = append(all, w)
		}
	}
	f.hintByDistribution(all)
	ports := newPortMapper(f.planner)
	for _, w := range all {
		set := ports.of(w.pod)
		g := f.groups[set.key]
		if g == nil {
			g = &group{ports: set.ports, unplaced: map[endpointKey]wanted{}}
			f.groups[set.key] = g
		}
		key := keyOf(&w.endpoint)
		g.unplaced[key] = w
		f.groupOf[key] = g
		f.should.note(&w.endpoint)
	}
}

// write adds a write for each slice that is not what it should be.
func (f *familyPlan) write() {
	for _, b := range f.bins {
		switch {
		case b.is == nil:
			f.create(b.group.ports, b.endpoints)
		case b.changed || !maps.Equal(b.is.Labels, f.labels):
			f.update(b.is, b.group.ports, b.endpoints)
		}
	}
	spares := f.spares
	if len(f.bins) == 0 {
		spares = f.placeholder(spares)
	}
	for _, s := range slices.Concat(spares, f.givers) {
		f.replace(s, nil, f.should)
	}
}

// placeholder sees to it that a family without endpoints has one empty slice,
// which says that somebody has looked and found none. It returns the other spares.
func (f *familyPlan) placeholder(spares []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	if len(spares) == 0 {
		f.trigger.note(f.Service.CreationTimestamp.Time)
		f.create([]discoveryv1.EndpointPort{}, nil)
		return nil
	}
	keep := max(0, slices.IndexFunc(spares, isPlaceholder))
	if s := spares[keep]; !isPlaceholder(s) || !maps.Equal(s.Labels, f.labels) {
		f.update(s, []discoveryv1.EndpointPort{}, nil)
	}
	return slices.Delete(slices.Clone(spares), keep, keep+1)
}

func isPlaceholder(s *discoveryv1.EndpointSlice) bool {
	return len(s.Ports) == 0 && len(s.Endpoints) == 0
}

func (f *familyPlan) create(ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint) {
	if f.Service.DeletionTimestamp != nil {
		return // it would only be in the garbage collector's way
	}
	owner := metav1.NewControllerRef(f.Service, corev1.SchemeGroupVersion.WithKind("Service"))
	f.add(Create, Additions, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    namePrefix(f.Service.Name),
			Namespace:       f.Service.Namespace,
			Labels:          f.labels,
			OwnerReferences: []metav1.OwnerReference{*owner},
		},
		AddressType: f.addressType,
		Ports:       ports,
		Endpoints:   orEmpty(endpoints),
	})
}

// namePrefix leaves room for the five characters that the server appends.
func namePrefix(service string) string {
	const longest = 253
	if len(service)+1 > longest {
		return service
	}
	return service + "-"
}

func (f *familyPlan) update(is *discoveryv1.EndpointSlice, ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint) {
	next := *is
	next.Labels, next.Ports, next.Endpoints = f.labels, ports, orEmpty(endpoints)
	f.replace(is, &next, f.should)
}

// orEmpty: the API wants a list, even an empty one.
func orEmpty(endpoints []discoveryv1.Endpoint) []discoveryv1.Endpoint {
	if endpoints == nil {
		return []discoveryv1.Endpoint{}
	}
	return endpoints
}
