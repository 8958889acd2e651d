package endpoints

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// handlers are the controller's ears: one handler per informer.
type handlers struct {
	controller *Controller
	added      []registration
}

type registration struct {
	informer cache.Informer
	handle   toolscache.ResourceEventHandlerRegistration
}

// source is an informer to listen to.
type source struct {
	cache   cache.Cache
	object  client.Object
	handler toolscache.ResourceEventHandler
}

// add adds the handlers and waits until each has heard of all that exists. The
// order matters for the cost of the start, not for its result: pods come last, to
// find their Services and nodes there.
func (h *handlers) add(ctx context.Context) error {
	c := h.controller
	sources := []source{
		{c.options.Shared, &corev1.Service{}, handler[*corev1.Service]{c.serviceChanged, c.serviceDeleted}},
		{c.options.Term, &corev1.Node{}, handler[*corev1.Node]{c.nodeChanged, c.nodeDeleted}},
	}
	if c.options.EndpointSlices {
		sources = append(sources, source{c.options.Shared, &discoveryv1.EndpointSlice{}, handler[*discoveryv1.EndpointSlice]{c.sliceChanged, c.sliceDeleted}})
	}
	if c.options.Endpoints {
		sources = append(sources, source{c.options.Term, &corev1.Endpoints{}, handler[*corev1.Endpoints]{c.endpointsChanged, c.endpointsDeleted}})
	}
	for _, s := range sources {
		if err := h.addOne(ctx, s); err != nil {
			return err
		}
	}
	if err := h.wait(ctx); err != nil {
		return err
	}
	if err := h.addOne(ctx, source{c.options.Term, &corev1.Pod{}, handler[*corev1.Pod]{c.podChanged, c.podDeleted}}); err != nil {
		return err
	}
	return h.wait(ctx)
}

func (h *handlers) addOne(ctx context.Context, s source) error {
	informer, err := s.cache.GetInformer(ctx, s.object, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("get the informer of %T: %w", s.object, err)
	}
	handle, err := informer.AddEventHandler(s.handler)
	if err != nil {
		return fmt.Errorf("listen to the informer of %T: %w", s.object, err)
	}
	h.added = append(h.added, registration{informer, handle})
	return nil
}

// wait waits until all handlers have been told what exists.
func (h *handlers) wait(ctx context.Context) error {
	const complainAfter = 10 * time.Second
	ticker := time.NewTicker(complainAfter)
	defer ticker.Stop()
	for _, r := range h.added {
		for synced := r.handle.HasSyncedChecker(); !toolscache.IsDone(synced); {
			select {
			case <-synced.Done():
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
				h.controller.log.Info("endpoint controller waits for the API server to tell it what exists", "of", synced.Name())
			}
		}
	}
	return nil
}

// remove takes the handlers off the informers.
func (h *handlers) remove() {
	var errs []error
	for _, r := range h.added {
		errs = append(errs, r.informer.RemoveEventHandler(r.handle))
	}
	if err := errors.Join(errs...); err != nil {
		h.controller.log.Error("cannot remove a handler", "error", err)
	}
}

// handler tells of changes of one kind. changed gets nil for an object that it
// has not told of before.
type handler[T client.Object] struct {
	changed func(was, is T, initial bool)
	deleted func(T)
}

// OnAdd implements toolscache.ResourceEventHandler.
func (h handler[T]) OnAdd(obj any, initial bool) {
	var none T
	if is, ok := obj.(T); ok {
		h.changed(none, is, initial)
	}
}

// OnUpdate implements toolscache.ResourceEventHandler. An object that was
// deleted and made again while nobody watched comes as an update.
func (h handler[T]) OnUpdate(old, obj any) {
	was, ok := old.(T)
	is, ok2 := obj.(T)
	switch {
	case !ok || !ok2:
	case was.GetUID() != is.GetUID():
		h.deleted(was)
		h.OnAdd(is, false)
	default:
		h.changed(was, is, false)
	}
}

// OnDelete implements toolscache.ResourceEventHandler.
func (h handler[T]) OnDelete(obj any) {
	if lost, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = lost.Obj
	}
	if was, ok := obj.(T); ok {
		h.deleted(was)
	}
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

func (c *Controller) podChanged(_, is *corev1.Pod, _ bool) { c.requeue(c.index.setPod(is)) }
func (c *Controller) podDeleted(was *corev1.Pod) {
	c.requeue(c.index.deletePod(client.ObjectKeyFromObject(was)))
}
func (c *Controller) nodeChanged(_, is *corev1.Node, _ bool) {
	c.requeue(c.index.setNode(is, time.Now()))
}
func (c *Controller) nodeDeleted(was *corev1.Node) { c.requeue(c.index.deleteNode(was.Name)) }

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
		if old, had := serviceOf(was); had && old != k && c.published.observeDelete(old, was) {
			c.requeueExisting(old)
		}
	}
	if ok && c.published.observe(k, is) {
		c.requeueExisting(k)
	}
}

func (c *Controller) sliceDeleted(was *discoveryv1.EndpointSlice) {
	if k, ok := serviceOf(was); ok && c.published.observeDelete(k, was) {
		c.requeueExisting(k)
	}
}

// endpointsChanged: Endpoints without a Service are left alone while somebody
// may be about to make the Service, and looked at once, at the start, as what an
// earlier controller left behind.
func (c *Controller) endpointsChanged(_, is *corev1.Endpoints, initial bool) {
	k := client.ObjectKeyFromObject(is)
	switch {
	case !c.published.observe(k, is):
	case initial:
		c.queue.Add(k)
	default:
		c.requeueExisting(k)
	}
}

func (c *Controller) endpointsDeleted(was *corev1.Endpoints) {
	if k := client.ObjectKeyFromObject(was); c.published.observeDelete(k, was) {
		c.requeueExisting(k)
	}
}

func (c *Controller) requeueExisting(k key) {
	if c.index.has(k) {
		c.queue.Add(k)
	}
}
