package verdict

import corev1 "k8s.io/api/core/v1"

// Node is what a verdict depends on of the Node that a pod runs on.
type Node struct {
	// Known: there is such a Node.
	Known bool
	// Trusted: the pod was served before the node controller marked it, and its
	// node has not been taken to be dead since.
	Trusted bool
	// Dead: the node is taken to be dead.
	Dead bool
	// Failed is why, if that is not only because the node controller says so: then
	// pods are out though they are ready, as none of them can be reached. Empty if
	// it is not so.
	Failed string
	// Untold: nobody tells a pod that waits when the nodes send to it, see Waits.
	// That is so for all nodes or for none.
	Untold bool
}

// Serves says whether the pod can be sent to: its node has not failed, and it is
// ready, or would be had the node controller not marked it without need, or would
// be if it were sent to.
//
// When no kubelet's lease is renewed for 50 s, because the API server was away
// or the network to it cut, the node controller marks every pod of the cluster
// unready (kubernetes/kubernetes#105617). The pods answer as before; without
// this all Services would be empty until each kubelet has looked after its pods.
func Serves(pod *corev1.Pod, node Node) bool {
	if node.Failed != "" {
		return false
	}
	return IsReady(pod) || node.Trusted && Marked(pod) || !node.Untold && !node.Dead && Waits(pod)
}

// Marked says whether it was the node controller that made the pod unready. Only
// that one leaves a pod unready whose containers and gates are as they should be:
// a kubelet derives Ready from these.
func Marked(pod *corev1.Pod) bool {
	ready, containers := condition(pod, corev1.PodReady), condition(pod, corev1.ContainersReady)
	if ready == nil || ready.Status != corev1.ConditionFalse || containers == nil || containers.Status != corev1.ConditionTrue {
		return false
	}
	for _, gate := range pod.Spec.ReadinessGates {
		c := condition(pod, gate.ConditionType)
		// A gate that has just become true is one that the kubelet has not seen yet.
		if c == nil || c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Before(&ready.LastTransitionTime) {
			return false
		}
	}
	return true
}
