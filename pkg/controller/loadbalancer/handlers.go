package loadbalancer

import (
	"context"
	"maps"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer/pool"
)

// TermObjects are what only the leader watches for this controller: the labels of
// the namespaces.
func TermObjects() map[client.Object]cache.ByObject {
	// Whole objects: a watch of metadata alone leaves a goroutine behind each time that it is
	// stopped with an event under way (k8s.io/apimachinery/pkg/watch.Filter).
	return map[client.Object]cache.ByObject{&corev1.Namespace{}: {Transform: labelsOnly}}
}

func labelsOnly(in any) (any, error) {
	if ns, ok := in.(*corev1.Namespace); ok {
		ns.ManagedFields, ns.Annotations, ns.OwnerReferences = nil, nil, nil
		ns.Spec, ns.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	}
	return in, nil
}

func (c *Controller) sources() []listen.Source {
	return []listen.Source{
		{Cache: c.options.Term, Object: &corev1.Namespace{}, Handler: listen.Handler[*corev1.Namespace]{Changed: c.namespaceChanged, Deleted: c.namespaceDeleted}},
		{Cache: c.options.Shared, Object: &corev1.Service{}, Handler: listen.Handler[*corev1.Service]{Changed: c.serviceChanged, Deleted: c.serviceDeleted}},
	}
}

func (c *Controller) namespaceChanged(was, is *corev1.Namespace, _ bool) {
	if was != nil && maps.Equal(was.Labels, is.Labels) {
		return
	}
	c.mu.Lock()
	c.allocator.SetNamespace(is.Name, is.Labels)
	c.mu.Unlock()
	signal(c.unsettled)
}

func (c *Controller) namespaceDeleted(was *corev1.Namespace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allocator.DeleteNamespace(was.Name)
}

// serviceChanged: most Services are no load balancers, and never were.
func (c *Controller) serviceChanged(was, is *corev1.Service, _ bool) {
	if !concerns(is) && (was == nil || !concerns(was)) {
		return
	}
	k := client.ObjectKeyFromObject(is)
	c.mu.Lock()
	c.allocator.SetService(is)
	c.publishes(k, is)
	c.mu.Unlock()
	c.queue.Add(k)
	signal(c.unsettled)
}

func concerns(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer || conditionOf(svc) != nil
}

func (c *Controller) serviceDeleted(was *corev1.Service) {
	if !concerns(was) {
		return
	}
	k := client.ObjectKeyFromObject(was)
	c.mu.Lock()
	c.allocator.DeleteService(k)
	c.publishes(k, nil)
	c.mu.Unlock()
	signal(c.unsettled)
}

// publishes notes which addresses are in the status of a Service; nil for one that
// is gone. c.mu is held.
func (c *Controller) publishes(k pool.Key, svc *corev1.Service) {
	for _, at := range c.statuses[k] {
		if delete(c.published[at], k); len(c.published[at]) == 0 {
			delete(c.published, at)
		}
	}
	delete(c.statuses, k)
	if svc == nil {
		return
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		at, err := v1alpha1.ParseAddress(in.IP)
		if err != nil {
			continue
		}
		if c.published[at] == nil {
			c.published[at] = map[pool.Key]struct{}{}
		}
		c.published[at][k] = struct{}{}
		c.statuses[k] = append(c.statuses[k], at)
	}
}

// blocked returns a Service in whose status an address still is that this one is
// to get, and the other one is to lose. c.mu is held.
func (c *Controller) blocked(k pool.Key, addresses []netip.Addr) (pool.Key, bool) {
	for _, at := range addresses {
		for other := range c.published[at] {
			if other == k {
				continue
			}
			if v, ok := c.allocator.Verdict(other); !ok || v.Ours && !contains(v.Addresses, at) {
				return other, true
			}
		}
	}
	return pool.Key{}, false
}

// catchUp waits until the cache has all that the leader before has written: it
// may lag, and an address that another Service just got must not be given again.
// An error says that ctx is done.
func (c *Controller) catchUp(ctx context.Context) error {
	const pause, complainAfter = 50 * time.Millisecond, 10 * time.Second
	began, told := time.Now(), false
	var list corev1.ServiceList
	err := c.options.Client.List(ctx, &list, client.MatchingFields{"spec.type": string(corev1.ServiceTypeLoadBalancer)})
	for behind := list.Items; err != nil || len(behind) > 0; {
		if !told && time.Since(began) > complainAfter {
			told = true
			c.log.Warn("load balancer controller waits for the newest state of the Services", "behind", len(behind), "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		if err != nil {
			list = corev1.ServiceList{}
			err = c.options.Client.List(ctx, &list, client.MatchingFields{"spec.type": string(corev1.ServiceTypeLoadBalancer)})
			behind = list.Items
			continue
		}
		behind = c.behind(ctx, behind)
	}
	return ctx.Err()
}

// behind returns those of the Services that the cache does not know in that
// version, nor in a newer one.
func (c *Controller) behind(ctx context.Context, services []corev1.Service) []corev1.Service {
	var out []corev1.Service
	for i := range services {
		k := client.ObjectKeyFromObject(&services[i])
		var has corev1.Service
		if err := c.options.Shared.Get(ctx, k, &has); err == nil {
			if cmp, err := resourceversion.CompareResourceVersion(has.ResourceVersion, services[i].ResourceVersion); err == nil && cmp >= 0 {
				continue
			}
		} else if apierrors.IsNotFound(err) && apierrors.IsNotFound(c.options.Client.Get(ctx, k, &has)) {
			continue
		}
		out = append(out, services[i])
	}
	return out
}
