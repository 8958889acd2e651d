package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// Change says that a pod's readiness, or an endpoint's, is another than before.
type Change struct {
	// At is when the API server's watch told it. The API keeps whole seconds
	// only; see trial.WatchDelay for how much later than the write this is.
	At time.Time
	// Pod is the pod's name.
	Pod   string
	Ready bool
}

// Changes collects what a watch tells.
type Changes struct {
	stop func()
	done chan struct{}

	mu      sync.Mutex
	changes []Change
	err     error // why it has ended before Stop
}

// WatchPods collects the changes of readiness of the pods with these labels.
func (c *Cluster) WatchPods(ctx context.Context, namespace, selector string) (*Changes, error) {
	// From a list on: a watch from "now" has to wait until the API server's own
	// cache knows what is now, which it gives up after three seconds if its etcd
	// is an old one.
	list, err := c.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	w, err := c.Client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: selector, ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	return collect(w, func(o runtime.Object, deleted bool) map[string]bool {
		p, ok := o.(*corev1.Pod)
		if !ok {
			return nil
		}
		return map[string]bool{p.Name: !deleted && PodReady(p)}
	}), nil
}

// WatchEndpoints collects the changes of readiness of the endpoints of a
// Service whose endpoints are in one EndpointSlice.
func (c *Cluster) WatchEndpoints(ctx context.Context, namespace, service string) (*Changes, error) {
	ofService := discoveryv1.LabelServiceName + "=" + service
	list, err := c.Client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: ofService})
	if err != nil {
		return nil, fmt.Errorf("list endpoint slices: %w", err)
	}
	w, err := c.Client.DiscoveryV1().EndpointSlices(namespace).Watch(ctx,
		metav1.ListOptions{LabelSelector: ofService, ResourceVersion: list.ResourceVersion})
	if err != nil {
		return nil, fmt.Errorf("watch endpoint slices: %w", err)
	}
	return collect(w, func(o runtime.Object, deleted bool) map[string]bool {
		s, ok := o.(*discoveryv1.EndpointSlice)
		if !ok || deleted {
			return nil
		}
		ready := map[string]bool{}
		for _, e := range s.Endpoints {
			if e.TargetRef != nil {
				ready[e.TargetRef.Name] = e.Conditions.Ready == nil || *e.Conditions.Ready
			}
		}
		return ready
	}), nil
}

// collect notes when what read says of a name changes, until the watch ends.
func collect(w watch.Interface, read func(o runtime.Object, deleted bool) map[string]bool) *Changes {
	c := &Changes{stop: w.Stop, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		last := map[string]bool{}
		for event := range w.ResultChan() {
			now := time.Now()
			if event.Type == watch.Error {
				c.fail(apierrors.FromObject(event.Object))
				return
			}
			for name, ready := range read(event.Object, event.Type == watch.Deleted) {
				if was, known := last[name]; known && was == ready {
					continue
				}
				last[name] = ready
				c.mu.Lock()
				c.changes = append(c.changes, Change{now, name, ready})
				c.mu.Unlock()
			}
		}
	}()
	return c
}

func (c *Changes) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = fmt.Errorf("the watch has ended: %w", err)
}

// After returns the first change of the pod to ready that was told after t.
func (c *Changes) After(t time.Time, pod string, ready bool) (Change, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.changes, func(x Change) bool { return x.Pod == pod && x.Ready == ready && x.At.After(t) })
	if i < 0 {
		return Change{}, false
	}
	return c.changes[i], true
}

// All returns the changes so far.
func (c *Changes) All() []Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.changes)
}

// Await waits for the first change of the pod to ready after t.
func (c *Changes) Await(ctx context.Context, limit time.Duration, t time.Time, pod string, ready bool) (Change, error) {
	var found Change
	err := Eventually(ctx, limit, func() error {
		var ok bool
		if found, ok = c.After(t, pod, ready); !ok {
			c.mu.Lock()
			defer c.mu.Unlock()
			return errors.Join(fmt.Errorf("%s has not become ready=%v", pod, ready), c.err)
		}
		return nil
	})
	return found, err
}

// Stop ends the watch.
func (c *Changes) Stop() {
	c.stop()
	<-c.done
}

// PodReady is true if the pod's Ready condition is.
func PodReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
