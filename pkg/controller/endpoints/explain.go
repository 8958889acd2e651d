package endpoints

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// Explain says of a Service whether it has a usable endpoint and, if not, why. It
// returns false if there is no such Service. Unlike what Observer is told it costs
// what the Service has of pods, and what the namespace has if it selects none. It
// is safe for concurrent use.
func (c *Controller) Explain(service types.NamespacedName) (verdict.Explanation, bool) {
	in, exists := c.index.look(service, time.Now())
	if !exists {
		return verdict.Explanation{}, false
	}
	out := verdict.Explanation{Service: in.Service, Usable: true}
	if !plan.SelectsPods(in.Service) || plan.Usable(in) {
		return out, true
	}
	in.Slices, in.Endpoints = c.published.Of(service)
	var near []verdict.NearMiss
	if len(in.Pods) == 0 {
		near = c.index.near(in.Service)
	}
	out.Usable = false
	out.Reason, out.Message = verdict.WhyUnusable(in.Service.Spec.Selector, plan.Explain(in, c.options.plan()), near)
	return out, true
}

func (c *Controller) observe(in plan.Input) {
	if c.options.Observer != nil {
		c.options.Observer.Observe(in.Service, !plan.SelectsPods(in.Service) || plan.Usable(in))
	}
}

// mostLookedAt bounds how many pods of a namespace are looked at for near misses,
// as nobody else gets at the index meanwhile.
const mostLookedAt = 10000

// near returns the pods of the Service's namespace that it nearly selects.
func (x *index) near(svc *corev1.Service) []verdict.NearMiss {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns := x.namespaces[svc.Namespace]
	if ns == nil {
		return nil
	}
	var out []verdict.NearMiss
	looked := 0
	for name, p := range ns.pods {
		if looked++; looked > mostLookedAt {
			break
		}
		if verdict.IsFinished(p.pod) {
			continue
		}
		if miss, ok := verdict.Near(svc.Spec.Selector, name, p.pod.Labels); ok {
			out = append(out, miss)
		}
	}
	return out
}
