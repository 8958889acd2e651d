package plan

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// OnlyFlipped says whether a pod has changed in nothing but its readiness, as far
// as a plan looks at it. Then MakeFlips may be enough.
//
// A pod that shares its address with others is left to the whole plan, as what
// the others are counts, and one that the node controller has marked, as the
// whole cluster does.
func OnlyFlipped(was, is *corev1.Pod) bool {
	return was.UID == is.UID && !is.Spec.HostNetwork &&
		!verdict.Marked(was) && !verdict.Marked(is) &&
		!verdict.IsFinished(was) && !verdict.IsFinished(is) &&
		was.DeletionTimestamp == nil && is.DeletionTimestamp == nil &&
		was.Spec.NodeName == is.Spec.NodeName &&
		was.Spec.Hostname == is.Spec.Hostname && was.Spec.Subdomain == is.Spec.Subdomain &&
		was.Status.PodIP == is.Status.PodIP && slices.Equal(was.Status.PodIPs, is.Status.PodIPs) &&
		maps.Equal(was.Labels, is.Labels)
}

// MakeFlips is Make for a Service of which nothing has changed since a plan that was
// not Shared and whose writes all succeeded, but that each of in.Pods, which are
// not all of the Service's, has flipped. It costs what the flips and their slices cost, and not
// what the Service has of pods. It returns false if it takes the whole plan.
//
// The plan is the one that Make would give, but for Problems, which are those of
// these pods only.
func MakeFlips(in Input, opt Options) (Plan, bool) {
	svc := in.Service
	if !opt.EndpointSlices || !SelectsPods(svc) || len(svc.Spec.IPFamilies) == 0 || WantsZones(svc) || svc.Spec.TrafficDistribution != nil {
		return Plan{}, false
	}
	p := &planner{Input: in, maxPerSlice: max(1, opt.MaxEndpointsPerSlice)}
	f := &flips{planner: p, pods: make(map[types.UID]*corev1.Pod, len(in.Pods))}
	for _, pod := range in.Pods {
		f.pods[pod.UID] = pod
	}
	for _, family := range svc.Spec.IPFamilies {
		if !f.slices(family) {
			return Plan{}, false
		}
	}
	if opt.Endpoints && !f.endpoints() {
		return Plan{}, false
	}
	return p.finish(), true
}

// flips plans the flips of some pods of a Service.
type flips struct {
	*planner
	pods map[types.UID]*corev1.Pod
}

// slices plans the slices of one family.
func (f *flips) slices(family corev1.IPFamily) bool {
	want := make(map[types.UID]wanted, len(f.pods))
	for uid, pod := range f.pods {
		if w, ok := f.endpoint(pod, family); ok {
			want[uid] = w
		}
	}
	missing := len(want)
	for _, s := range f.ofFamily(family) {
		next, phase, changed := []discoveryv1.Endpoint(nil), Additions, false
		for i := range s.Endpoints {
			is := &s.Endpoints[i]
			if is.TargetRef == nil {
				return false
			}
			if f.pods[is.TargetRef.UID] == nil {
				continue
			}
			w, ok := want[is.TargetRef.UID]
			if !ok || keyOf(is) != keyOf(&w.endpoint) || is.Hints != nil {
				return false
			}
			missing--
			if sameEndpoint(is, &w.endpoint) {
				continue
			}
			if !changed {
				next, changed = slices.Clone(s.Endpoints), true
			}
			next[i] = w.endpoint
			f.podChanged(w.pod)
			if trafficOf(&w.endpoint) < trafficOf(is) {
				phase = Removals
			}
		}
		if changed {
			o := *s
			o.Endpoints = next
			f.add(Update, phase, &o)
		}
	}
	return missing == 0
}

// ofFamily returns the slices that a whole plan keeps, in its order.
func (f *flips) ofFamily(family corev1.IPFamily) []*discoveryv1.EndpointSlice {
	out := make([]*discoveryv1.EndpointSlice, 0, len(f.Slices))
	for _, s := range f.Slices {
		if isOurs(s) && s.DeletionTimestamp == nil && isOwnedBy(s, f.Service) && corev1.IPFamily(s.AddressType) == family {
			out = append(out, s)
		}
	}
	return sortedSlices(out)
}

// endpoints plans the Endpoints object.
func (f *flips) endpoints() bool {
	is := f.Endpoints
	if is == nil || is.DeletionTimestamp != nil {
		return false
	}
	flip := f.flipSubsets
	if _, cut := is.Annotations[corev1.EndpointsOverCapacity]; cut {
		flip = f.flipTruncated
	}
	next := slices.Clone(is.Subsets)
	worse, ok := flip(next)
	if !ok {
		return false
	}
	if slices.EqualFunc(is.Subsets, next, sameLists) {
		return true
	}
	phase := Additions
	if worse {
		phase = Removals
	}
	o := *is
	o.Subsets = next
	f.noteSubsets(is.Subsets, next)
	f.add(Update, phase, &o)
	return true
}

// sameLists compares by identity: what is not changed is not copied.
func sameLists(a, b corev1.EndpointSubset) bool {
	same := func(x, y []corev1.EndpointAddress) bool {
		return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0])
	}
	return same(a.Addresses, b.Addresses) && same(a.NotReadyAddresses, b.NotReadyAddresses)
}

// flipSubsets moves the pods' addresses to the lists that they belong to.
func (f *flips) flipSubsets(subsets []corev1.EndpointSubset) (worse, ok bool) {
	if !isRepacked(subsets) {
		return false, false
	}
	for _, pod := range f.Pods {
		address, listed := f.endpointAddress(pod)
		if !listed {
			continue
		}
		key, ready := addressKeyOf(&address[0]), f.isReadyInEndpoints(pod)
		found := false
		for i := range subsets {
			from, to := &subsets[i].NotReadyAddresses, &subsets[i].Addresses
			if !ready {
				from, to = to, from
			}
			if _, there := find(*to, key); there {
				found = true
			} else if at, there := find(*from, key); there {
				found, worse = true, worse || !ready
				*from = without(*from, at)
				*to = with(*to, address[0])
			}
		}
		if !found && f.hasPort(pod) {
			return false, false
		}
	}
	return worse, true
}

func (f *flips) isReadyInEndpoints(pod *corev1.Pod) bool {
	return f.Service.Spec.PublishNotReadyAddresses || verdict.Serves(pod, f.node(pod))
}

// hasPort says whether the pod is in any subset.
func (f *flips) hasPort(pod *corev1.Pod) bool {
	ports := f.Service.Spec.Ports
	if len(ports) == 0 {
		return f.Service.Spec.ClusterIP == corev1.ClusterIPNone
	}
	return slices.ContainsFunc(ports, func(p corev1.ServicePort) bool {
		_, ok := verdict.TargetPort(&p, pod)
		return ok
	})
}

// flipTruncated changes the one subset of an object that has the first
// MaxEndpoints ready addresses of more. What comes after the last of them is looked
// up in the slices, which have all.
func (f *flips) flipTruncated(subsets []corev1.EndpointSubset) (worse, ok bool) {
	if len(subsets) != 1 || len(subsets[0].Addresses) != MaxEndpoints || len(subsets[0].NotReadyAddresses) > 0 ||
		f.Service.Spec.PublishNotReadyAddresses || !isRepacked(subsets) {
		return false, false
	}
	list := subsets[0].Addresses
	last := addressKeyOf(&list[MaxEndpoints-1])
	for _, pod := range f.Pods {
		address, listed := f.endpointAddress(pod)
		if !listed || !f.hasPort(pod) {
			return false, false
		}
		key, ready := addressKeyOf(&address[0]), f.isReadyInEndpoints(pod)
		at, there := find(list, key)
		switch {
		case ready && !there && key.compare(last) < 0:
			list = with(list, address[0])
		case !ready && there:
			list = without(list, at)
			worse = true
		}
	}
	if len(list) < MaxEndpoints {
		next, found := f.readyAfter(last, MaxEndpoints-len(list))
		if !found {
			return false, false
		}
		list = append(list, next...)
	} else if len(list) > MaxEndpoints {
		list = list[:MaxEndpoints:MaxEndpoints]
		worse = true
	}
	subsets[0].Addresses = list
	return worse, true
}

// mostAfter bounds how many addresses readyAfter looks for.
const mostAfter = 10

// readyAfter returns the first n ready addresses after a key, as they are when the
// pods have flipped; false if there are fewer, or n is large.
func (f *flips) readyAfter(after addressKey, n int) ([]corev1.EndpointAddress, bool) {
	if n > mostAfter {
		return nil, false
	}
	var first []corev1.EndpointAddress // sorted, at most n
	for _, s := range f.ofFamily(f.Service.Spec.IPFamilies[0]) {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			ready := isReady(e)
			if pod := f.pods[e.TargetRef.UID]; pod != nil {
				ready = f.isReadyInEndpoints(pod)
			}
			key := addressKey{e.Addresses[0], e.TargetRef.UID}
			if !ready || key.compare(after) <= 0 || len(first) == n && key.compare(addressKeyOf(&first[n-1])) > 0 {
				continue
			}
			first = with(first, addressOf(e))
			first = first[:min(n, len(first))]
		}
	}
	return first, len(first) == n
}

// addressOf is what Endpoints says of an endpoint.
func addressOf(e *discoveryv1.Endpoint) corev1.EndpointAddress {
	a := corev1.EndpointAddress{IP: e.Addresses[0], NodeName: e.NodeName, TargetRef: e.TargetRef}
	if e.Hostname != nil {
		a.Hostname = *e.Hostname
	}
	return a
}

func find(list []corev1.EndpointAddress, k addressKey) (int, bool) {
	return slices.BinarySearchFunc(list, k, func(a corev1.EndpointAddress, k addressKey) int { return addressKeyOf(&a).compare(k) })
}

// with and without return copies: the lists are the caches'.
func with(list []corev1.EndpointAddress, a corev1.EndpointAddress) []corev1.EndpointAddress {
	at, _ := find(list, addressKeyOf(&a))
	return slices.Insert(slices.Clip(slices.Clone(list)), at, a)
}

func without(list []corev1.EndpointAddress, at int) []corev1.EndpointAddress {
	if len(list) == 1 {
		return nil
	}
	return slices.Delete(slices.Clone(list), at, at+1)
}

// isRepacked says whether subsets are sorted as repack sorts them. Those of other
// controllers may not be, and the next plan that changes anything writes them so.
func isRepacked(subsets []corev1.EndpointSubset) bool {
	sorted := func(list []corev1.EndpointAddress) bool {
		for i := 1; i < len(list); i++ {
			if addressKeyOf(&list[i-1]).compare(addressKeyOf(&list[i])) >= 0 {
				return false
			}
		}
		return true
	}
	comparePorts := func(a, b corev1.EndpointPort) int { return subsetPortOf(&a).compare(subsetPortOf(&b)) }
	for i := range subsets {
		s := &subsets[i]
		if !sorted(s.Addresses) || !sorted(s.NotReadyAddresses) || !slices.IsSortedFunc(s.Ports, comparePorts) {
			return false
		}
	}
	return slices.IsSortedFunc(subsets, func(a, b corev1.EndpointSubset) int {
		return cmp.Or(slices.CompareFunc(a.Ports, b.Ports, comparePorts))
	})
}
