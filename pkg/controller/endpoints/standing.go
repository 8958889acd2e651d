package endpoints

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// Standing says of pods how far their Services have published them as ready. One
// that is no more has none. It costs what these Services have of endpoints, once
// for all of the pods, and is safe for concurrent use.
func (c *Controller) Standing(pods []*corev1.Pod) map[types.UID]verdict.Standing {
	out, selecting := c.index.standing(pods, time.Now())
	for _, s := range selecting {
		uids := make(map[types.UID]bool, len(s.pods))
		for _, p := range s.pods {
			uids[p.UID] = true
		}
		eps, _ := c.published.Of(key{Namespace: s.service.Namespace, Name: s.service.Name})
		published := plan.PublishedIn(eps, uids)
		for _, p := range s.pods {
			standing := out[p.UID]
			published.Add(&standing, s.service, p)
			out[p.UID] = standing
		}
	}
	return out
}

// selecting is a Service with those of the pods in question that it selects.
type selecting struct {
	service *corev1.Service
	pods    []*corev1.Pod
}

// standing returns the pods that exist, with what is known of them without a look
// at what is published, and their Services.
func (x *index) standing(pods []*corev1.Pod, now time.Time) (map[types.UID]verdict.Standing, map[key]selecting) {
	x.mu.Lock()
	defer x.mu.Unlock()
	out, services := map[types.UID]verdict.Standing{}, map[key]selecting{}
	for _, pod := range pods {
		ns := x.namespaces[pod.Namespace]
		if ns == nil || ns.pods[pod.Name] == nil || ns.pods[pod.Name].pod.UID != pod.UID {
			continue
		}
		p := ns.pods[pod.Name]
		exists, dead := x.nodes.fate(p.pod.Spec.NodeName, now)
		out[pod.UID] = verdict.Standing{Dead: exists && dead}
		for s := range p.services {
			services[s.key] = selecting{s.service, append(services[s.key].pods, p.pod)}
		}
	}
	return out, services
}

// Alive says whether there is a Node of that name which is not taken to be dead.
// It is safe for concurrent use.
func (c *Controller) Alive(name string) bool {
	c.index.mu.Lock()
	defer c.index.mu.Unlock()
	exists, dead := c.index.nodes.fate(name, time.Now())
	return exists && !dead
}

// fate says whether there is a Node of that name, and whether it is taken to be
// dead, by whatever evidence.
func (ns *nodes) fate(name string, now time.Time) (exists, dead bool) {
	n, exists := ns.byName[name]
	_, failed := ns.failed[name]
	return exists, failed || exists && ns.dead(n, now)
}
