package plan

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// Usable says whether the Service has an endpoint that new connections go to. It
// stops at the first pod that is one, and does not look for pods that another has
// taken the address of.
func Usable(in Input) bool {
	p := &planner{Input: in}
	families := familiesOf(in.Service)
	return slices.ContainsFunc(in.Pods, func(pod *corev1.Pod) bool {
		return p.judge(pod, families).State != verdict.Out
	})
}

// Explain returns the verdict on each of the pods that the Service selects, sorted
// by name: that in the family that it gets on best with.
func Explain(in Input, opt Options) []verdict.Of {
	p := &planner{Input: in}
	p.owners = owners(in.Pods)
	wasCut := !opt.EndpointSlices && opt.Endpoints && in.Endpoints != nil && in.Endpoints.Annotations[corev1.EndpointsOverCapacity] != ""
	var listed map[addressKey]bool
	if wasCut {
		listed = readiness(in.Endpoints.Subsets)
	}
	out := make([]verdict.Of, 0, len(in.Pods))
	for _, pod := range in.Pods {
		families := familiesOf(in.Service)
		if !opt.EndpointSlices {
			families = []corev1.IPFamily{endpointsFamily(in.Service, pod)}
		}
		v := p.judge(pod, families)
		if wasCut && v.State != verdict.Out && !isListed(listed, pod, families[0]) {
			v = verdict.Verdict{State: verdict.Out, Reason: verdict.Truncated}
		}
		out = append(out, verdict.Of{Pod: pod.Name, Verdict: v})
	}
	slices.SortFunc(out, func(a, b verdict.Of) int { return strings.Compare(a.Pod, b.Pod) })
	return out
}

func isListed(listed map[addressKey]bool, pod *corev1.Pod, family corev1.IPFamily) bool {
	return slices.ContainsFunc(verdict.Addresses(pod, family), func(a string) bool {
		_, ok := listed[addressKey{a, pod.UID}]
		return ok
	})
}

// judge returns the verdict on a pod in the family where it is best; that in the
// first one, if it is out of all.
func (p *planner) judge(pod *corev1.Pod, families []corev1.IPFamily) verdict.Verdict {
	var best verdict.Verdict
	for i, family := range families {
		v := verdict.Judge(p.Service, pod, family, p.node(pod))
		if taken := p.takenBy(pod, family); taken != "" && v.Listed {
			v = verdict.Verdict{State: verdict.Out, Reason: verdict.AddressTaken, Subject: taken}
		}
		better := rank(v) > rank(best) || best.Reason == verdict.NoAddressOfFamily && v.State == verdict.Out
		if i == 0 || better {
			best = v
		}
	}
	return best
}

func rank(v verdict.Verdict) int {
	switch v.State {
	case verdict.In:
		return 2
	case verdict.ServingOnly:
		return 1
	default:
		return 0
	}
}

// takenBy returns the pod that has all addresses of a family that this one claims.
func (p *planner) takenBy(pod *corev1.Pod, family corev1.IPFamily) string {
	if len(p.owners) == 0 || pod.Spec.HostNetwork {
		return ""
	}
	by := ""
	for _, a := range verdict.Addresses(pod, family) {
		owner := p.owners[a]
		if owner == nil || owner == pod {
			return ""
		}
		by = owner.Name
	}
	return by
}
