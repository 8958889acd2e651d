package plan

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// owners finds, for each address that several pods claim, the pod that has it. A
// network gives an address to the next pod as soon as the last one's sandbox is
// gone, while the API may show the old pod for long: its node is dead, or a
// finalizer holds it (kubernetes/kubernetes#135266). Publishing both would say two
// things of one address; so the one that came last has it, and one that terminates
// only if all do.
//
// Pods on their host's network share its address rightfully and are not looked at.
// Nor are the pods of other Services: some networks give tenants the same addresses.
func owners(pods []*corev1.Pod) map[string]*corev1.Pod {
	first := make(map[string]*corev1.Pod, len(pods))
	var shared map[string]*corev1.Pod
	for _, pod := range pods {
		if pod.Spec.HostNetwork || verdict.IsFinished(pod) {
			continue
		}
		for i := range max(1, len(pod.Status.PodIPs)) {
			a := claim(pod, i)
			other := first[a]
			switch {
			case a == "" || other == pod:
				continue
			case other == nil:
				first[a] = pod
				continue
			case shared == nil:
				shared = map[string]*corev1.Pod{}
			}
			if after(pod, other) {
				first[a] = pod
			}
			shared[a] = first[a]
		}
	}
	return shared
}

// claim returns a pod's i-th address as it is written, for it is called for every
// pod: old ways of writing one are not worth the reading.
func claim(pod *corev1.Pod, i int) string {
	if len(pod.Status.PodIPs) == 0 {
		return pod.Status.PodIP
	}
	return pod.Status.PodIPs[i].IP
}

// after says whether pod a has rather got an address after b.
func after(a, b *corev1.Pod) bool {
	if (a.DeletionTimestamp == nil) != (b.DeletionTimestamp == nil) {
		return a.DeletionTimestamp == nil
	}
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return b.CreationTimestamp.Before(&a.CreationTimestamp)
	}
	return strings.Compare(string(a.UID), string(b.UID)) > 0
}

// addresses are those of a family that the pod should be published with.
func (p *planner) addresses(pod *corev1.Pod, family corev1.IPFamily) []string {
	all := verdict.Addresses(pod, family)
	if len(p.owners) == 0 || pod.Spec.HostNetwork {
		return all
	}
	out := make([]string, 0, len(all))
	for _, a := range all {
		if owner := p.owners[a]; owner != nil && owner != pod {
			p.problem(podField(pod, "status.podIPs["+a+"]"), fmt.Sprintf("the address is that of the later pod %s now", owner.Name))
			continue
		}
		out = append(out, a)
	}
	return out
}
