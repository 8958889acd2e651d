package mirror

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
)

func (c *Controller) sources() []listen.Source {
	return []listen.Source{
		{Cache: c.options.Shared, Object: &corev1.Service{}, Handler: listen.Handler[*corev1.Service]{Changed: c.serviceChanged, Deleted: c.serviceDeleted}},
		{Cache: c.options.Shared, Object: &discoveryv1.EndpointSlice{}, Handler: listen.Handler[*discoveryv1.EndpointSlice]{Changed: c.sliceChanged, Deleted: c.sliceDeleted}},
		{Cache: c.options.Term, Object: &corev1.Endpoints{}, Handler: listen.Handler[*corev1.Endpoints]{Changed: c.endpointsChanged, Deleted: c.endpointsDeleted}},
	}
}

// serviceChanged: most Services have a selector, and there is nothing to do for
// those, unless there are slices left, which put themselves into the queue.
func (c *Controller) serviceChanged(was, is *corev1.Service, _ bool) {
	if plan.IsForMirroring(is) || was != nil && plan.IsForMirroring(was) {
		c.queue.Add(client.ObjectKeyFromObject(is))
	}
}

func (c *Controller) serviceDeleted(was *corev1.Service) {
	if plan.IsForMirroring(was) {
		c.queue.Add(client.ObjectKeyFromObject(was))
	}
}

func (c *Controller) endpointsChanged(_, is *corev1.Endpoints, _ bool) {
	c.queue.Add(client.ObjectKeyFromObject(is))
}

func (c *Controller) endpointsDeleted(was *corev1.Endpoints) {
	c.queue.Add(client.ObjectKeyFromObject(was))
}

// keyOf returns the Service whose Endpoints a slice says that it mirrors, or
// false if it mirrors none.
func keyOf(s *discoveryv1.EndpointSlice) (ledger.Key, bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return ledger.Key{Namespace: s.Namespace, Name: name}, name != "" && plan.IsMirror(s)
}

// sliceChanged: a slice may be taken away from its Service, or from this
// controller, by its labels.
func (c *Controller) sliceChanged(was, is *discoveryv1.EndpointSlice, _ bool) {
	k, ok := keyOf(is)
	if was != nil {
		if old, had := keyOf(was); had && (!ok || old != k) && c.mirrored.ObserveDelete(old, was) {
			c.queue.Add(old)
		}
	}
	if ok && c.mirrored.Observe(k, is) {
		c.queue.Add(k)
	}
}

func (c *Controller) sliceDeleted(was *discoveryv1.EndpointSlice) {
	if k, ok := keyOf(was); ok && c.mirrored.ObserveDelete(k, was) {
		c.queue.Add(k)
	}
}
