package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// counting returns those of a Service's slices that say where it leads. If it has
// external backends, and there are slices that say which of them work, these are
// all; what they were made from does not count then. Otherwise they do not: they
// are left over from when it had.
func counting(svc *corev1.Service, all []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	if !slices.ContainsFunc(all, isOfBackends) {
		return all
	}
	wants := v1alpha1.WantsBackends(svc.Annotations) && len(svc.Spec.Selector) == 0
	var checked, others []*discoveryv1.EndpointSlice
	for _, s := range all {
		switch {
		case !isOfBackends(s):
			others = append(others, s)
		case wants && metav1.IsControlledBy(s, svc):
			checked = append(checked, s)
		}
	}
	if len(checked) > 0 {
		return checked
	}
	return others
}

func isOfBackends(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelManagedBy] == v1alpha1.BackendsManager
}
