package plan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/endpointslice/topologycache"
	"k8s.io/endpointslice/trafficdist"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Hints say whose traffic an endpoint should get. They come from one of two
// wishes of a Service; what nobody wished for is removed:
//
//   - the annotation topology-mode: each zone should get as many endpoints as it
//     has CPUs, see zoneHints; it wins over
//   - spec.trafficDistribution: an endpoint is for its own zone or node, whatever
//     the others are. That is decided by k8s.io/endpointslice/trafficdist.

// WantsZones says whether the Service wants its endpoints allotted to the zones
// by their CPUs, so that its plan depends on Input.ZoneCPU.
func WantsZones(svc *corev1.Service) bool {
	mode, ok := svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !ok {
		mode = svc.Annotations[corev1.AnnotationTopologyMode]
	}
	return mode == "Auto" || mode == "auto"
}

// hintByDistribution gives the hints that spec.trafficDistribution asks for.
func (f *familyPlan) hintByDistribution(all []wanted) {
	wish := f.Service.Spec.TrafficDistribution
	if wish == nil || f.byZones {
		return
	}
	s := &discoveryv1.EndpointSlice{Endpoints: make([]discoveryv1.Endpoint, len(all))}
	for i := range all {
		s.Endpoints[i] = all[i].endpoint
	}
	trafficdist.ReconcileHints(wish, []*discoveryv1.EndpointSlice{s}, nil, nil)
	for i := range all {
		all[i].endpoint.Hints = s.Endpoints[i].Hints
	}
}

// unhinted notes why a Service that wants its zones to have endpoints of their
// own gets no hints.
func (f *familyPlan) unhinted(why string) {
	f.plan.Unhinted = append(f.plan.Unhinted, model.Problem{
		Field:   "metadata.annotations[" + corev1.AnnotationTopologyMode + "]",
		Message: topologycache.FormatWithAddressType(why, f.addressType),
	})
}

func sameHints(a, b *discoveryv1.EndpointHints) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.ForZones, b.ForZones) && slices.Equal(a.ForNodes, b.ForNodes)
}
