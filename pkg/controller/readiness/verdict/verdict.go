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
	// NodeSilent (In): the node controller marked the pod unready because it did
	// not hear of its node, see Serves; the pod goes on being sent to.
	NodeSilent Reason = "NodeSilent"
	// Programming (In): all that the pod lacks is the gate ProgrammedGate, which
	// opens when the nodes send to it; so they have to.
	Programming Reason = "Programming"
	// PublishedNotReady (In): the pod is not ready or terminates, and the Service
	// says publishNotReadyAddresses.
	PublishedNotReady Reason = "PublishedNotReady"
	// ServesWhileTerminating (ServingOnly): the pod is ready and terminates.
	ServesWhileTerminating Reason = "ServesWhileTerminating"
	// Terminating (Out): the pod terminates and is not ready.
	Terminating Reason = "Terminating"
	// Finished (Out): the pod's phase, the Subject, is Succeeded or Failed.
	Finished Reason = "Finished"
	// NoAddress (Out): the pod has no address yet. Detail has what it waits for.
	NoAddress Reason = "NoAddress"
	// NoAddressOfFamily (Out): the pod has addresses, none of the family that is
	// the Subject.
	NoAddressOfFamily Reason = "NoAddressOfFamily"
	// AddressTaken (Out): the pod that is the Subject came later and has its
	// address. Judge does not know of other pods, the plan does.
	AddressTaken Reason = "AddressTaken"
	// Truncated (Out): the Endpoints object has no room for the pod. It does not
	// happen where there are EndpointSlices. Judge does not know of it, the plan does.
	Truncated Reason = "Truncated"
	// NodeUnknown (Out): there is no Node of the name that is the Subject.
	NodeUnknown Reason = "NodeUnknown"
	// NodeDead (Out): the node that is the Subject is dead, the Detail says how one
	// knows; otherwise the pod could be sent to.
	NodeDead Reason = "NodeDead"
	// NoPort (Out): no container of the pod has any of the ports that the Service
	// names; MissingPorts lists them.
	NoPort Reason = "NoPort"
	// GateNotTrue (Out): the readiness gate that is the Subject is not True.
	GateNotTrue Reason = "GateNotTrue"
	// ContainerNotReady (Out): the container that is the Subject is not ready.
	ContainerNotReady Reason = "ContainerNotReady"
	// Initializing (Out): the init container that is the Subject has not done its
	// work; no other has been started.
	Initializing Reason = "Initializing"
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
		v.State, v.Reason = In, whyServes(pod)
	case c.Ready:
		v.State, v.Reason = In, PublishedNotReady
	case c.Serving:
		v.State, v.Reason = ServingOnly, ServesWhileTerminating
	case node.Failed != "" && Serves(pod, Node{Known: node.Known, Untold: node.Untold}):
		v.State, v.Reason, v.Subject, v.Detail = Out, NodeDead, pod.Spec.NodeName, node.Failed
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
		return Verdict{State: Out, Reason: NoAddress, Detail: whyNoAddress(pod)}, true
	case len(Addresses(pod, family)) == 0:
		return Verdict{State: Out, Reason: NoAddressOfFamily, Subject: string(family)}, true
	case !node.Known && !svc.Spec.PublishNotReadyAddresses:
		return Verdict{State: Out, Reason: NodeUnknown, Subject: pod.Spec.NodeName}, true
	}
	return Verdict{}, false
}

// whyServes says why a pod is sent to, which is.
func whyServes(pod *corev1.Pod) Reason {
	switch {
	case IsReady(pod):
		return Ready
	case Waits(pod):
		return Programming
	}
	return NodeSilent
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
