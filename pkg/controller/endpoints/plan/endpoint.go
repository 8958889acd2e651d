package plan

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// endpointKey says which endpoint is which. What it does not contain (node,
// zone, conditions, the pod's UID) may change in place.
type endpointKey struct{ addresses, hostname, namespace, name string }

func keyOf(e *discoveryv1.Endpoint) endpointKey {
	k := endpointKey{addresses: joined(e.Addresses)}
	if e.Hostname != nil {
		k.hostname = *e.Hostname
	}
	if e.TargetRef != nil {
		k.namespace, k.name = e.TargetRef.Namespace, e.TargetRef.Name
	}
	return k
}

// joined is one string for a set of addresses. There is nearly always one.
func joined(addresses []string) string {
	if len(addresses) == 1 {
		return addresses[0]
	}
	return strings.Join(slices.Sorted(slices.Values(addresses)), ",")
}

func compareKeys(a, b endpointKey) int {
	if c := strings.Compare(a.namespace, b.namespace); c != 0 {
		return c
	}
	if c := strings.Compare(a.name, b.name); c != 0 {
		return c
	}
	if c := strings.Compare(a.addresses, b.addresses); c != 0 {
		return c
	}
	return strings.Compare(a.hostname, b.hostname)
}

// wanted is an endpoint that should be published, and the pod it stands for.
type wanted struct {
	endpoint discoveryv1.Endpoint
	pod      *corev1.Pod
}

// endpoint returns what the pod is in the Service's slices of a family, or false
// if it has no place there.
func (p *planner) endpoint(pod *corev1.Pod, family corev1.IPFamily) (wanted, bool) {
	if verdict.IsFinished(pod) {
		return wanted{}, false
	}
	addresses := p.addresses(pod, family)
	if len(addresses) == 0 {
		return wanted{}, false
	}
	node, zone := p.node(pod), p.Zones[pod.Spec.NodeName]
	if !node.Known {
		p.problem(podField(pod, "spec.nodeName"), fmt.Sprintf("there is no Node %q", pod.Spec.NodeName))
		if !p.Service.Spec.PublishNotReadyAddresses {
			return wanted{}, false
		}
	}
	c := verdict.ConditionsOf(p.Service, pod, node)
	e := discoveryv1.Endpoint{
		Addresses:  addresses,
		Conditions: discoveryv1.EndpointConditions{Ready: &c.Ready, Serving: &c.Serving, Terminating: &c.Terminating},
		TargetRef:  targetRef(pod),
		NodeName:   textOrNil(pod.Spec.NodeName),
		Zone:       textOrNil(zone),
		Hostname:   textOrNil(hostname(p.Service, pod)),
	}
	return wanted{e, pod}, true
}

func podField(pod *corev1.Pod, field string) string {
	return "pods[" + pod.Name + "]." + field
}

func textOrNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func targetRef(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

// hostname is the pod's name below the Service's: it has one if it says that the
// Service is its subdomain.
func hostname(svc *corev1.Service, pod *corev1.Pod) string {
	if pod.Spec.Subdomain == svc.Name && pod.Namespace == svc.Namespace {
		return pod.Spec.Hostname
	}
	return ""
}

// sameEndpoint says whether an endpoint needs no write but for its hints; the
// keys are equal.
func sameEndpoint(is, want *discoveryv1.Endpoint) bool {
	return sameConditions(is, want) &&
		equalPtr(is.NodeName, want.NodeName) &&
		equalPtr(is.Zone, want.Zone) &&
		sameRef(is.TargetRef, want.TargetRef) &&
		len(is.DeprecatedTopology) == 0
}

func sameConditions(a, b *discoveryv1.Endpoint) bool {
	return equalPtr(a.Conditions.Ready, b.Conditions.Ready) &&
		equalPtr(a.Conditions.Serving, b.Conditions.Serving) &&
		equalPtr(a.Conditions.Terminating, b.Conditions.Terminating)
}

func equalPtr[T comparable](a, b *T) bool {
	return a == b || (a != nil && b != nil && *a == *b)
}

// sameRef ignores the resource version: old controllers wrote it, and a change
// of it says nothing about the endpoint.
func sameRef(a, b *corev1.ObjectReference) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.ResourceVersion, y.ResourceVersion = "", ""
	return x == y
}

// isReady reads the condition as the API says: unknown is ready.
func isReady(e *discoveryv1.Endpoint) bool {
	return e.Conditions.Ready == nil || *e.Conditions.Ready
}

func isServing(e *discoveryv1.Endpoint) bool {
	if e.Conditions.Serving == nil {
		return isReady(e)
	}
	return *e.Conditions.Serving
}
