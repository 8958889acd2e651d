package backends

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/backends/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
)

func (c *Controller) sources() []listen.Source {
	return []listen.Source{
		{Cache: c.options.Shared, Object: &corev1.Service{}, Handler: listen.Handler[*corev1.Service]{Changed: c.serviceChanged, Deleted: c.serviceDeleted}},
		{Cache: c.options.Shared, Object: &discoveryv1.EndpointSlice{}, Handler: listen.Handler[*discoveryv1.EndpointSlice]{Changed: c.sliceChanged, Deleted: c.sliceDeleted}},
	}
}

// concerns says whether there is anything to do about a Service, be it to take back
// what was said of it.
func concerns(svc *corev1.Service) bool {
	return v1alpha1.WantsBackends(svc.Annotations) || conditionOf(svc) != nil
}

func (c *Controller) serviceChanged(was, is *corev1.Service, _ bool) {
	if concerns(is) || was != nil && concerns(was) {
		c.queue.Add(client.ObjectKeyFromObject(is))
	}
}

func (c *Controller) serviceDeleted(was *corev1.Service) {
	if concerns(was) {
		c.queue.Add(client.ObjectKeyFromObject(was))
	}
}

// keyOf returns the Service that a slice bears the name of, and whether the slice
// is one of ours.
func keyOf(s *discoveryv1.EndpointSlice) (k ledger.Key, ours bool) {
	k = ledger.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
	return k, k.Name != "" && plan.IsOurs(s)
}

// sliceChanged: a slice may be taken away from its Service, or from us, by its
// labels.
func (c *Controller) sliceChanged(was, is *discoveryv1.EndpointSlice, _ bool) {
	k, ours := keyOf(is)
	if was != nil {
		if old, had := keyOf(was); had && (!ours || old != k) {
			if c.ours.ObserveDelete(old, was) {
				c.queue.Add(old)
			}
		} else if !had && old != k {
			c.othersChanged(old)
		}
	}
	if !ours {
		c.othersChanged(k)
	} else if c.ours.Observe(k, is) {
		c.queue.Add(k)
	}
}

func (c *Controller) sliceDeleted(was *discoveryv1.EndpointSlice) {
	k, ours := keyOf(was)
	if !ours {
		c.othersChanged(k)
	} else if c.ours.ObserveDelete(k, was) {
		c.queue.Add(k)
	}
}

// othersChanged: most slices are of Services that ask for nothing here. One that
// does later is looked at with all its slices then.
func (c *Controller) othersChanged(k ledger.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.services[k] != nil {
		c.queue.Add(k)
	}
}
