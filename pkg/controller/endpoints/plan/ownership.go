package plan

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The marks by which the objects of these controllers are known. They are the
// stock controllers' own: whoever takes the objects over, in either direction,
// must recognise them.
const (
	// SliceManager is the value of the label endpointslice.kubernetes.io/managed-by.
	SliceManager = "endpointslice-controller.k8s.io"
	// EndpointsManagedBy is the label that says who manages an Endpoints.
	EndpointsManagedBy = "endpoints.kubernetes.io/managed-by"
	// EndpointsManager is its value.
	EndpointsManager = "endpoint-controller"
)

// lockAnnotation marks an Endpoints that is a leader election's lock, which has
// no Service and must not be taken for a leftover.
const lockAnnotation = "control-plane.alpha.kubernetes.io/leader"

func isLock(e *corev1.Endpoints) bool {
	_, ok := e.Annotations[lockAnnotation]
	return ok
}

// isOurs says whether these controllers manage the slice, for whichever Service.
func isOurs(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelManagedBy] == SliceManager
}

// isOwnedBy says whether the slice belongs to this very Service, not to an
// earlier one of the same name.
func isOwnedBy(s *discoveryv1.EndpointSlice, svc *corev1.Service) bool {
	for _, o := range s.OwnerReferences {
		if o.UID == svc.UID && o.Kind == "Service" && o.APIVersion == "v1" {
			return true
		}
	}
	return false
}

// hasServiceOwner says whether some Service controls the slice, which a slice
// made by hand would hardly have.
func hasServiceOwner(s *discoveryv1.EndpointSlice) bool {
	o := metav1.GetControllerOfNoCopy(s)
	return o != nil && o.Kind == "Service" && o.APIVersion == "v1"
}

// abandonSlices deletes what the controllers made before the Service lost its
// selector: nobody would ever correct those addresses again.
func (p *planner) abandonSlices() {
	for _, s := range sortedSlices(p.Slices) {
		if isOurs(s) && hasServiceOwner(s) && s.DeletionTimestamp == nil {
			p.add(Delete, Removals, s)
		}
	}
}

// isAbandoned says whether an Endpoints whose Service selects no pods is what
// the controllers left behind. The label alone does not prove it: whoever then
// edits the object by hand, as is the custom for such Services, keeps the label.
// Their addresses stand for no Pod.
func isAbandoned(e *corev1.Endpoints) bool {
	if e.Labels[EndpointsManagedBy] != EndpointsManager || isLock(e) || e.DeletionTimestamp != nil {
		return false
	}
	for i := range e.Subsets {
		if !allPods(e.Subsets[i].Addresses) || !allPods(e.Subsets[i].NotReadyAddresses) {
			return false
		}
	}
	return true
}

func allPods(addrs []corev1.EndpointAddress) bool {
	for i := range addrs {
		if r := addrs[i].TargetRef; r == nil || r.Kind != "Pod" || r.UID == "" {
			return false
		}
	}
	return true
}

// sliceLabels are those of a slice: the Service's, and the reserved ones.
func sliceLabels(svc *corev1.Service) map[string]string {
	out := make(map[string]string, len(svc.Labels)+3)
	maps.Copy(out, svc.Labels)
	markHeadless(out, svc)
	out[discoveryv1.LabelServiceName] = svc.Name
	out[discoveryv1.LabelManagedBy] = SliceManager
	return out
}

// endpointsLabels are those of an Endpoints.
func endpointsLabels(svc *corev1.Service) map[string]string {
	out := make(map[string]string, len(svc.Labels)+2)
	maps.Copy(out, svc.Labels)
	markHeadless(out, svc)
	out[EndpointsManagedBy] = EndpointsManager
	return out
}

func markHeadless(labels map[string]string, svc *corev1.Service) {
	if svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		labels[corev1.IsHeadlessService] = ""
	} else {
		delete(labels, corev1.IsHeadlessService)
	}
}
