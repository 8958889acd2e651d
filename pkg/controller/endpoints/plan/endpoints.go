package plan

import (
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netutils "k8s.io/utils/net"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// MaxEndpoints is how many addresses an Endpoints has at most. What is beyond it
// is only in the EndpointSlices.
const MaxEndpoints = 1000

// truncated is the value of the annotation that says so.
const truncated = "truncated"

// planEndpoints plans the one Endpoints object of the Service.
func (p *planner) planEndpoints() {
	subsets, cut := truncate(repack(p.subsets()))
	if cut {
		p.problem("endpoints", fmt.Sprintf("has more than %d addresses: the Endpoints object is truncated, the EndpointSlices are not", MaxEndpoints))
	}
	is, labels := p.Endpoints, endpointsLabels(p.Service)
	if is == nil {
		p.noteSubsets(nil, subsets)
		p.add(Create, Additions, &corev1.Endpoints{
			ObjectMeta: metav1.ObjectMeta{
				Name: p.Service.Name, Namespace: p.Service.Namespace,
				Labels: labels, Annotations: withCapacity(nil, cut),
			},
			Subsets: subsets,
		})
		return
	}
	_, wasCut := is.Annotations[corev1.EndpointsOverCapacity]
	if is.DeletionTimestamp != nil ||
		(cut == wasCut && maps.Equal(is.Labels, labels) && equalSubsets(repack(is.Subsets), subsets)) {
		return
	}
	p.noteSubsets(is.Subsets, subsets)
	next := *is
	next.Labels, next.Subsets = labels, subsets
	next.Annotations = withCapacity(is.Annotations, cut)
	p.add(Update, subsetsPhase(is.Subsets, subsets), &next)
}

func withCapacity(annotations map[string]string, cut bool) map[string]string {
	out := maps.Clone(annotations)
	delete(out, corev1.EndpointsOverCapacity)
	if cut {
		if out == nil {
			out = map[string]string{}
		}
		out[corev1.EndpointsOverCapacity] = truncated
	}
	return out
}

// subsets returns one subset per pod and port; repack makes the object of them.
func (p *planner) subsets() []corev1.EndpointSubset {
	var out []corev1.EndpointSubset
	publish := p.Service.Spec.PublishNotReadyAddresses
	for _, pod := range p.Pods {
		address, ok := p.endpointAddress(pod)
		if !ok {
			continue
		}
		s := corev1.EndpointSubset{NotReadyAddresses: address}
		if publish || verdict.Serves(pod, p.node(pod)) {
			s = corev1.EndpointSubset{Addresses: address}
		}
		if len(p.Service.Spec.Ports) == 0 {
			if p.Service.Spec.ClusterIP == corev1.ClusterIPNone {
				out = append(out, s)
			}
			continue
		}
		for i := range p.Service.Spec.Ports {
			sp := &p.Service.Spec.Ports[i]
			n, ok := verdict.TargetPort(sp, pod)
			if !ok {
				p.portProblem(i, pod)
				continue
			}
			s.Ports = []corev1.EndpointPort{{Name: sp.Name, Port: n, Protocol: sp.Protocol, AppProtocol: sp.AppProtocol}}
			out = append(out, s)
		}
	}
	return out
}

// endpointAddress returns the pod's address, alone in a list. A pod that
// terminates has none here, for Endpoints cannot say that it does.
func (p *planner) endpointAddress(pod *corev1.Pod) ([]corev1.EndpointAddress, bool) {
	if verdict.IsFinished(pod) || (pod.DeletionTimestamp != nil && !p.Service.Spec.PublishNotReadyAddresses) {
		return nil, false
	}
	addresses := p.addresses(pod, endpointsFamily(p.Service, pod))
	if len(addresses) == 0 {
		return nil, false
	}
	return []corev1.EndpointAddress{{
		IP:        addresses[0],
		Hostname:  hostname(p.Service, pod),
		NodeName:  textOrNil(pod.Spec.NodeName),
		TargetRef: targetRef(pod),
	}}, true
}

// endpointsFamily is the Service's first family: Endpoints has only that.
func endpointsFamily(svc *corev1.Service, pod *corev1.Pod) corev1.IPFamily {
	like := svc.Spec.ClusterIP
	switch {
	case len(svc.Spec.IPFamilies) > 0:
		return svc.Spec.IPFamilies[0]
	case like == "" || like == corev1.ClusterIPNone:
		like = pod.Status.PodIP
	}
	if netutils.IsIPv6String(like) {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

// noteSubsets notes the pods whose address is new or has another readiness. Of an
// object that was truncated an address may also be new because another has gone:
// that is no change of its pod's, unless it is known for one.
func (p *planner) noteSubsets(is, next []corev1.EndpointSubset) {
	if len(next) == 0 && p.Endpoints == nil {
		p.trigger.note(p.Service.CreationTimestamp.Time)
	}
	was := readiness(is)
	now := readiness(next)
	wasCut := p.Endpoints != nil && p.Endpoints.Annotations[corev1.EndpointsOverCapacity] != ""
	for _, pod := range p.Pods {
		for _, a := range verdict.Addresses(pod, endpointsFamily(p.Service, pod)) {
			key := addressKey{a, pod.UID}
			ready, listed := now[key]
			before, known := was[key]
			_, changed := p.Since[pod.UID]
			if listed && (known && ready != before || !known && (changed || !wasCut)) {
				p.podChanged(pod)
			}
		}
	}
}

// subsetsPhase: the object is one write, so all that counts is whether it takes
// an address out of the ready ones.
func subsetsPhase(is, next []corev1.EndpointSubset) Phase {
	now := readiness(next)
	for key, ready := range readiness(is) {
		if ready && !now[key] {
			return Removals
		}
	}
	return Additions
}

func readiness(subsets []corev1.EndpointSubset) map[addressKey]bool {
	out := map[addressKey]bool{}
	for i := range subsets {
		for j := range subsets[i].NotReadyAddresses {
			out[addressKeyOf(&subsets[i].NotReadyAddresses[j])] = false
		}
	}
	for i := range subsets {
		for j := range subsets[i].Addresses {
			out[addressKeyOf(&subsets[i].Addresses[j])] = true
		}
	}
	return out
}
