package plan

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// Published has, for some pods of one Service, the highest resource version of
// the EndpointSlices that have them as ready, by the kind of address. A version
// that is no number is 0.
type Published map[types.UID]map[discoveryv1.AddressType]uint64

// PublishedIn looks for pods in a Service's slices, of which only those that these
// controllers manage count.
func PublishedIn(all []*discoveryv1.EndpointSlice, pods map[types.UID]bool) Published {
	out := Published{}
	for _, s := range all {
		if !isOurs(s) || s.DeletionTimestamp != nil {
			continue
		}
		version, err := strconv.ParseUint(s.ResourceVersion, 10, 64)
		if err != nil {
			version = 0
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if e.TargetRef == nil || !pods[e.TargetRef.UID] || !isReady(e) {
				continue
			}
			if out[e.TargetRef.UID] == nil {
				out[e.TargetRef.UID] = map[discoveryv1.AddressType]uint64{}
			}
			has := out[e.TargetRef.UID]
			has[s.AddressType] = max(has[s.AddressType], version)
		}
	}
	return out
}

// Add counts one more Service that selects the pod into its standing, if it has a
// place for the pod: in each of its families that the pod has an address of.
func (p Published) Add(to *verdict.Standing, svc *corev1.Service, pod *corev1.Pod) {
	places, missing := 0, false
	for _, family := range familiesOf(svc) {
		if len(verdict.Addresses(pod, family)) == 0 {
			continue
		}
		places++
		version, published := p[pod.UID][discoveryv1.AddressType(family)]
		missing = missing || !published
		to.Version = max(to.Version, version)
	}
	if places == 0 {
		return
	}
	to.Services++
	if !missing {
		to.Published++
	}
}
