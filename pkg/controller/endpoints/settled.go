package endpoints

import (
	"context"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// versions are those of what is published of a Service.
type versions map[ledger.ID]string

func versionsOf(in *plan.Input) versions {
	out := make(versions, len(in.Slices)+1)
	for _, s := range in.Slices {
		out[ledger.IDOf(s)] = s.ResourceVersion
	}
	if in.Endpoints != nil {
		out[ledger.IDOf(in.Endpoints)] = in.Endpoints.ResourceVersion
	}
	return out
}

// settled has for each Service whose last plan was carried out what was published
// then. As long as that is so, and nothing of the Service has changed but the
// readiness of some pods, the next plan need only be about those. It is safe for
// concurrent use.
type settled struct {
	mu sync.Mutex
	by map[key]versions
}

func (s *settled) is(k key, now versions) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.by[k]
	return known && maps.Equal(was, now)
}

func (s *settled) forget(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, k)
}

// set notes that the writes of a plan made of what was there before; written are
// their versions.
func (s *settled) set(k key, before versions, p *plan.Plan, written map[ledger.ID]string) {
	maps.Copy(before, written)
	for _, w := range p.Writes {
		if w.Verb == plan.Delete {
			delete(before, ledger.IDOf(w.Object))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[k] = before
}

// syncFlips plans and writes what has changed if that is the readiness of some
// pods, see plan.MakeFlips. It returns false if it is more.
func (c *Controller) syncFlips(ctx context.Context, k key) (done bool, err error) {
	var now plan.Input
	now.Slices, now.Endpoints = c.published.Of(k)
	if before := versionsOf(&now); !c.settled.is(k, before) {
		return false, nil
	}
	in, only := c.index.flips(k, time.Now())
	if !only {
		return false, nil
	}
	in.Slices, in.Endpoints = now.Slices, now.Endpoints
	p, enough := plan.MakeFlips(in, c.options.plan())
	if !enough {
		c.index.unsynced(k, in.Since)
		return false, nil
	}
	c.metrics.plans.WithLabelValues(planOfFlips).Inc()
	if c.options.Observer != nil {
		c.options.Observer.Observe(in.Service, usable(&in, &p))
	}
	return true, c.carryOut(ctx, k, &in, p)
}

// usable says whether a Service has an endpoint that connections go to once p is
// carried out.
func usable(in *plan.Input, p *plan.Plan) bool {
	written := map[string]bool{}
	for _, w := range p.Writes {
		if s, ok := w.Object.(*discoveryv1.EndpointSlice); ok {
			written[s.Name] = true
			if hasUsable(in.Service, s) {
				return true
			}
		}
	}
	for _, s := range in.Slices {
		if !written[s.Name] && hasUsable(in.Service, s) {
			return true
		}
	}
	return false
}

func hasUsable(svc *corev1.Service, s *discoveryv1.EndpointSlice) bool {
	if s.Labels[discoveryv1.LabelManagedBy] != plan.SliceManager || len(s.Ports) == 0 && len(svc.Spec.Ports) > 0 {
		return false
	}
	for i := range s.Endpoints {
		if c := s.Endpoints[i].Conditions; c.Ready == nil || *c.Ready || c.Serving != nil && *c.Serving {
			return true
		}
	}
	return false
}

// carryOut makes the writes of a plan, and remembers what is published then. The
// plan must not be Shared if it is to be remembered.
func (c *Controller) carryOut(ctx context.Context, k key, in *plan.Input, p plan.Plan) error {
	c.settled.forget(k)
	written, err := c.write(ctx, k, in.Service, p)
	if err != nil {
		c.index.unsynced(k, in.Since)
		return err
	}
	if !p.Shared {
		c.settled.set(k, versionsOf(in), &p, written)
	}
	return nil
}
