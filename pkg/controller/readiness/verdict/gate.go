package verdict

import corev1 "k8s.io/api/core/v1"

// ProgrammedGate is the readiness gate of pods that want to be ready only when
// the nodes send to them.
const ProgrammedGate corev1.PodConditionType = "signpost.dev/programmed"

// Waits says whether all that a pod lacks is ProgrammedGate, or that its kubelet
// sees that this is open. Such a pod is published as if it were ready: else no
// node would ever send to it, and the gate never open.
//
// A pod that was ready once and was marked by the node controller does not wait:
// that comes after the gate has opened, see Marked.
func Waits(pod *corev1.Pod) bool {
	gated := false
	for _, gate := range pod.Spec.ReadinessGates {
		gated = gated || gate.ConditionType == ProgrammedGate
	}
	if !gated || IsReady(pod) || IsFinished(pod) || pod.DeletionTimestamp != nil {
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

// GateIsShut says whether ProgrammedGate is yet to be opened. It says nothing of
// whether the pod has that gate.
func GateIsShut(pod *corev1.Pod) bool {
	c := condition(pod, ProgrammedGate)
	return c == nil || c.Status != corev1.ConditionTrue
}
