package endpoints

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/listen"
	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// listen adds the handlers and waits until each has heard of all that exists. The
// order matters for the cost of the start, not for its result: pods come last, to
// find their Services and nodes there.
func (c *Controller) listen(ctx context.Context, ears *listen.Ears) error {
	sources := []listen.Source{
		{Cache: c.options.Shared, Object: &corev1.Service{}, Handler: listen.Handler[*corev1.Service]{Changed: c.serviceChanged, Deleted: c.serviceDeleted}},
		{Cache: c.options.Term, Object: &corev1.Node{}, Handler: listen.Handler[*corev1.Node]{Changed: c.nodeChanged, Deleted: c.nodeDeleted}},
	}
	if c.options.EndpointSlices {
		sources = append(sources, listen.Source{Cache: c.options.Shared, Object: &discoveryv1.EndpointSlice{},
			Handler: listen.Handler[*discoveryv1.EndpointSlice]{Changed: c.sliceChanged, Deleted: c.sliceDeleted}})
	}
	if c.options.Endpoints {
		sources = append(sources, listen.Source{Cache: c.options.Term, Object: &corev1.Endpoints{},
			Handler: listen.Handler[*corev1.Endpoints]{Changed: c.endpointsChanged, Deleted: c.endpointsDeleted}})
	}
	if err := ears.Add(ctx, c.log, sources...); err != nil {
		return err
	}
	return ears.Add(ctx, c.log, listen.Source{Cache: c.options.Term, Object: &corev1.Pod{},
		Handler: listen.Handler[*corev1.Pod]{Changed: c.podChanged, Deleted: c.podDeleted}})
}

// serviceChanged: a Service that is new has nothing to lose; one that is changed
// may want other pods or ports than before.
func (c *Controller) serviceChanged(was, is *corev1.Service, _ bool) {
	c.index.setService(is)
	if k := client.ObjectKeyFromObject(is); was == nil {
		c.queue.Add(k)
	} else {
		c.queue.AddRemoval(k)
	}
}

func (c *Controller) serviceDeleted(was *corev1.Service) {
	k := client.ObjectKeyFromObject(was)
	c.index.deleteService(k)
	c.queue.AddRemoval(k)
}

func (c *Controller) podChanged(_, is *corev1.Pod, _ bool) {
	c.requeue(c.index.setPod(is))
	if c.options.Gatekeeper != nil && verdict.HasGate(is) {
		c.options.Gatekeeper.ObservePod(is)
	}
}

func (c *Controller) podDeleted(was *corev1.Pod) {
	c.requeue(c.index.deletePod(client.ObjectKeyFromObject(was)))
	if c.options.Gatekeeper != nil && verdict.HasGate(was) {
		c.options.Gatekeeper.ForgetPod(was)
	}
}

func (c *Controller) nodeChanged(_, is *corev1.Node, _ bool) {
	c.requeue(c.index.setNode(is, time.Now()))
}
func (c *Controller) nodeDeleted(was *corev1.Node) { c.requeue(c.index.deleteNode(was.Name)) }

// SetDead is told of all nodes that are dead, each with the reason in words: their
// endpoints leave, whatever the node controller says, until it is told otherwise.
// The reason of a node should not change while it is dead. It may be called at any
// time, also before Run, and from anywhere; it does not block.
func (c *Controller) SetDead(nodes map[string]string) {
	died, back := c.index.setFailed(nodes)
	c.requeue(died)
	c.requeue(back)
}

// requeue lets additions wait for each other, but not removals for anything.
func (c *Controller) requeue(a affected) {
	for _, k := range a.keys {
		if a.removes {
			c.queue.AddRemoval(k)
		} else {
			c.queue.AddAddition(k)
		}
		if a.again > 0 {
			c.queue.AddOnceMore(k, a.again)
		}
	}
}

// serviceOf returns the key of the Service that a slice says it belongs to.
func serviceOf(s *discoveryv1.EndpointSlice) (key, bool) {
	name := s.Labels[discoveryv1.LabelServiceName]
	return key{Namespace: s.Namespace, Name: name}, name != ""
}

func (c *Controller) sliceChanged(was, is *discoveryv1.EndpointSlice, _ bool) {
	k, ok := serviceOf(is)
	if was != nil {
		if old, had := serviceOf(was); had && old != k && c.published.ObserveDelete(old, was) {
			c.requeueExisting(old)
		}
	}
	if ok && c.published.Observe(k, is) {
		c.requeueExisting(k)
	}
}

func (c *Controller) sliceDeleted(was *discoveryv1.EndpointSlice) {
	if k, ok := serviceOf(was); ok && c.published.ObserveDelete(k, was) {
		c.requeueExisting(k)
	}
}

// endpointsChanged: Endpoints without a Service are left alone while somebody
// may be about to make the Service, and looked at once, at the start, as what an
// earlier controller left behind.
func (c *Controller) endpointsChanged(_, is *corev1.Endpoints, initial bool) {
	k := client.ObjectKeyFromObject(is)
	switch {
	case !c.published.Observe(k, is):
	case initial:
		c.queue.Add(k)
	default:
		c.requeueExisting(k)
	}
}

func (c *Controller) endpointsDeleted(was *corev1.Endpoints) {
	if k := client.ObjectKeyFromObject(was); c.published.ObserveDelete(k, was) {
		c.requeueExisting(k)
	}
}

func (c *Controller) requeueExisting(k key) {
	if c.index.has(k) {
		c.queue.Add(k)
	}
}
