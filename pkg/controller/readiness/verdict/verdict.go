package verdict

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// State is what a Service does with a pod.
type State string

// The states. A pod that a Service selects is in exactly one of them.
const (
	// In: the pod gets new connections.
	In State = "In"
	// ServingOnly: the pod still answers while it terminates; it gets new
	// connections only where no other pod is In (KEP-1669).
	ServingOnly State = "ServingOnly"
	// Out: the pod gets no connection of this Service.
	Out State = "Out"
)

// Reason is why a pod is in its State.
type Reason string

// The reasons, with the State they lead to.
const (
	// Ready (In): the pod is ready.
	Ready Reason = "Ready"
	// PublishedNotReady (In): the pod is not ready or terminates, and the Service
	// says publishNotReadyAddresses.
	PublishedNotReady Reason = "PublishedNotReady"
	// ServesWhileTerminating (ServingOnly): the pod is ready and terminates.
	ServesWhileTerminating Reason = "ServesWhileTerminating"
	// Terminating (Out): the pod terminates and is not ready.
	Terminating Reason = "Terminating"
	// Finished (Out): the pod's phase, the Subject, is Succeeded or Failed.
	Finished Reason = "Finished"
	// NoAddress (Out): the pod has no address yet.
	NoAddress Reason = "NoAddress"
	// NoAddressOfFamily (Out): the pod has addresses, none of the family that is
	// the Subject.
	NoAddressOfFamily Reason = "NoAddressOfFamily"
	// NodeUnknown (Out): there is no Node of the name that is the Subject.
	NodeUnknown Reason = "NodeUnknown"
	// NoPort (Out): no container of the pod has any of the ports that the Service
	// names; MissingPorts lists them.
	NoPort Reason = "NoPort"
	// GateNotTrue (Out): the readiness gate that is the Subject is not True.
	GateNotTrue Reason = "GateNotTrue"
	// ContainerNotReady (Out): the container that is the Subject is not ready.
	ContainerNotReady Reason = "ContainerNotReady"
	// NotReady (Out): the Ready condition is not True though containers and gates
	// are, as when the node is dead. Detail has the condition's reason.
	NotReady Reason = "NotReady"
)

// Conditions are those of an EndpointSlice's endpoint.
type Conditions struct{ Ready, Serving, Terminating bool }

// Verdict says what a Service does with a pod, in one address family.
type Verdict struct {
	State  State
	Reason Reason
	// Subject names what the Reason is about: a container, a readiness gate, a
	// node, a family or a phase. Empty where the Reason says all.
	Subject string
	// Detail is what the cluster says about the Subject, such as
	// "CrashLoopBackOff". Empty where it says nothing.
	Detail string
	// Listed is true if the pod has an endpoint in the Service's EndpointSlices.
	// A pod that is not ready is Out and Listed.
	Listed bool
	// Conditions are those of that endpoint. All false if it is not Listed.
	Conditions Conditions
	// MissingPorts are the target ports that the Service names and the pod does
	// not have. The pod is Out if that leaves no port of the Service.
	MissingPorts []string
}

// Judge returns the verdict on a pod that svc selects and that runs on node.
func Judge(svc *corev1.Service, pod *corev1.Pod, family corev1.IPFamily, node Node) Verdict {
	if v, unlisted := unlisted(svc, pod, family, node); unlisted {
		return v
	}
	v := Verdict{Listed: true, Conditions: ConditionsOf(svc, pod, node), MissingPorts: missingPorts(svc, pod)}
	switch c := v.Conditions; {
	case len(v.MissingPorts) > 0 && len(v.MissingPorts) == len(svc.Spec.Ports):
		v.State, v.Reason = Out, NoPort
	case c.Serving && !c.Terminating:
		v.State, v.Reason = In, Ready
	case c.Ready:
		v.State, v.Reason = In, PublishedNotReady
	case c.Serving:
		v.State, v.Reason = ServingOnly, ServesWhileTerminating
	case c.Terminating:
		v.State, v.Reason = Out, Terminating
	default:
		v.State = Out
		v.Reason, v.Subject, v.Detail = whyNotReady(pod)
	}
	return v
}

// unlisted returns the verdict on a pod that gets no endpoint at all.
func unlisted(svc *corev1.Service, pod *corev1.Pod, family corev1.IPFamily, node Node) (Verdict, bool) {
	switch {
	case IsFinished(pod):
		return Verdict{State: Out, Reason: Finished, Subject: string(pod.Status.Phase), Detail: pod.Status.Reason}, true
	case !hasAddress(pod):
		return Verdict{State: Out, Reason: NoAddress}, true
	case len(Addresses(pod, family)) == 0:
		return Verdict{State: Out, Reason: NoAddressOfFamily, Subject: string(family)}, true
	case !node.Known && !svc.Spec.PublishNotReadyAddresses:
		return Verdict{State: Out, Reason: NodeUnknown, Subject: pod.Spec.NodeName}, true
	}
	return Verdict{}, false
}

// ConditionsOf returns the conditions of the endpoint of a pod that runs on node.
func ConditionsOf(svc *corev1.Service, pod *corev1.Pod, node Node) Conditions {
	c := Conditions{Serving: Serves(pod, node), Terminating: pod.DeletionTimestamp != nil}
	c.Ready = svc.Spec.PublishNotReadyAddresses || (c.Serving && !c.Terminating)
	return c
}

// IsReady says whether the pod's Ready condition is True.
func IsReady(pod *corev1.Pod) bool {
	c := condition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// ReadyChanged returns when the pod's Ready condition last changed, or the zero
// time if it has none.
func ReadyChanged(pod *corev1.Pod) time.Time {
	if c := condition(pod, corev1.PodReady); c != nil {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// IsFinished says whether the pod's containers have ended for good.
func IsFinished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func condition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// whyNotReady looks for the first container, then the first gate, that keeps a
// pod from being ready. Containers first: a gate often waits for them.
func whyNotReady(pod *corev1.Pod) (reason Reason, subject, detail string) {
	if c := notReadyContainer(pod); c != nil {
		return ContainerNotReady, c.Name, containerState(c)
	}
	for _, gate := range pod.Spec.ReadinessGates {
		c := condition(pod, gate.ConditionType)
		switch {
		case c == nil:
			return GateNotTrue, string(gate.ConditionType), "no such condition"
		case c.Status != corev1.ConditionTrue:
			return GateNotTrue, string(gate.ConditionType), c.Reason
		}
	}
	if c := condition(pod, corev1.PodReady); c != nil {
		return NotReady, "", c.Reason
	}
	return NotReady, "", "no Ready condition"
}

// notReadyContainer returns the first container that counts for readiness and is
// not ready: ordinary ones, and init containers that are restartable.
func notReadyContainer(pod *corev1.Pod) *corev1.ContainerStatus {
	for i := range pod.Status.ContainerStatuses {
		if !pod.Status.ContainerStatuses[i].Ready {
			return &pod.Status.ContainerStatuses[i]
		}
	}
	restartable := map[string]bool{}
	for i := range pod.Spec.InitContainers {
		restartable[pod.Spec.InitContainers[i].Name] = isRestartable(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Status.InitContainerStatuses {
		if c := &pod.Status.InitContainerStatuses[i]; !c.Ready && restartable[c.Name] {
			return c
		}
	}
	return nil
}

func containerState(c *corev1.ContainerStatus) string {
	switch {
	case c.State.Waiting != nil:
		return c.State.Waiting.Reason
	case c.State.Terminated != nil:
		return c.State.Terminated.Reason
	case c.State.Running != nil && (c.Started == nil || *c.Started):
		return "readiness probe fails"
	case c.State.Running != nil:
		return "startup probe has not succeeded"
	}
	return ""
}
