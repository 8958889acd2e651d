package verdict

import corev1 "k8s.io/api/core/v1"

// ProgrammedGate is the readiness gate of pods that want to be ready only when
// the nodes send to them.
const ProgrammedGate corev1.PodConditionType = "signpost.dev/programmed"

// Waits says whether all that a pod lacks is ProgrammedGate, or that its kubelet
// sees that this is open. Such a pod is published as if it were ready: else no
// node would ever send to it, and the gate never open. But only if somebody opens
// it, see Node.Untold: else the gate is to the pod what any other is.
//
// A pod that was ready once and was marked by the node controller does not wait:
// that comes after the gate has opened, see Marked.
func Waits(pod *corev1.Pod) bool {
	if !HasGate(pod) || IsReady(pod) || IsFinished(pod) || pod.DeletionTimestamp != nil {
		return false
	}
	if c := condition(pod, corev1.ContainersReady); c == nil || c.Status != corev1.ConditionTrue {
		return false
	}
	for _, gate := range pod.Spec.ReadinessGates {
		c := condition(pod, gate.ConditionType)
		if gate.ConditionType != ProgrammedGate && (c == nil || c.Status != corev1.ConditionTrue) {
			return false
		}
	}
	return GateIsShut(pod) || !Marked(pod)
}

// HasGate says whether a pod lists ProgrammedGate.
func HasGate(pod *corev1.Pod) bool {
	for i := range pod.Spec.ReadinessGates {
		if pod.Spec.ReadinessGates[i].ConditionType == ProgrammedGate {
			return true
		}
	}
	return false
}

// Lapses says whether ProgrammedGate is open for a pod whose endpoints have left
// the nodes, because a container or another gate is not as it should be: when
// that is mended, the pod has to wait again. A pod on its way out is left alone,
// and so is one that only the node controller calls unready.
func Lapses(pod *corev1.Pod) bool {
	return HasGate(pod) && !GateIsShut(pod) && !IsReady(pod) && !Marked(pod) && !Waits(pod) &&
		pod.DeletionTimestamp == nil && !IsFinished(pod)
}

// Standing is how far it has come that the nodes are told to send to a pod.
type Standing struct {
	// Services is how many have a place for the pod, Published how many of them
	// have it as ready in all EndpointSlices that it belongs in.
	Services, Published int
	// Version is the highest resource version of these slices; 0 if it is no
	// number. A node that knows all slices up to it knows of the pod.
	Version uint64
	// Dead: the pod's node is taken to be dead, for which it is not published.
	Dead bool
}

// GateIsShut says whether ProgrammedGate is yet to be opened. It says nothing of
// whether the pod has that gate.
func GateIsShut(pod *corev1.Pod) bool {
	c := condition(pod, ProgrammedGate)
	return c == nil || c.Status != corev1.ConditionTrue
}
