package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/bench/world"
)

// watcher sees what is published.
type watcher struct {
	slices, endpoints watch.Interface
	done              sync.WaitGroup
	pods              int

	mu sync.Mutex
	// ready is by address what was published last, and seen when that was.
	ready map[string]bool
	seen  map[string]time.Time
	// count is how many are ready.
	count   int
	writes  int
	stopped bool
	ended   error
}

// watch begins to watch what is published in the namespace. Call stop in the end.
func (w *cluster) watch(ctx context.Context) (*watcher, error) {
	slices, err := w.watchFromNow(ctx, &discoveryv1.EndpointSliceList{})
	if err != nil {
		return nil, err
	}
	// Of Endpoints only the number of writes matters.
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("EndpointsList"))
	endpoints, err := w.watchFromNow(ctx, list)
	if err != nil {
		slices.Stop()
		return nil, err
	}
	o := &watcher{slices: slices, endpoints: endpoints, pods: len(w.Pods), ready: map[string]bool{}, seen: map[string]time.Time{}}
	o.done.Go(o.readSlices)
	o.done.Go(func() {
		for range endpoints.ResultChan() {
			o.mu.Lock()
			o.writes++
			o.mu.Unlock()
		}
	})
	return o, nil
}

// watchFromNow lists, which the server can do at once whatever its cache has, and
// watches from there on.
func (w *cluster) watchFromNow(ctx context.Context, list client.ObjectList) (watch.Interface, error) {
	if err := w.List(ctx, list, client.InNamespace(world.Namespace)); err != nil {
		return nil, err
	}
	return w.Watch(ctx, list, client.InNamespace(world.Namespace), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}})
}

func (o *watcher) stop() {
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	o.slices.Stop()
	o.endpoints.Stop()
	o.done.Wait()
}

func (o *watcher) readSlices() {
	for e := range o.slices.ResultChan() {
		now := time.Now()
		s, ok := e.Object.(*discoveryv1.EndpointSlice)
		o.mu.Lock()
		switch {
		case !ok:
			o.ended = fmt.Errorf("the watch of EndpointSlices: %v", e.Object)
		case e.Type == watch.Deleted: // left over from the contender before
		default:
			o.writes++
			for i := range s.Endpoints {
				o.note(s.Endpoints[i].Addresses[0], *s.Endpoints[i].Conditions.Ready, now)
			}
		}
		o.mu.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended == nil && !o.stopped {
		o.ended = errors.New("the watch of EndpointSlices has ended before its time")
	}
}

// note notes what is published for an address.
func (o *watcher) note(address string, ready bool, now time.Time) {
	was, known := o.ready[address]
	if known && was == ready {
		return
	}
	o.ready[address], o.seen[address] = ready, now
	if ready {
		o.count++
	} else if was {
		o.count--
	}
}

// awaitAll waits until all pods are published as ready.
func (o *watcher) awaitAll(ctx context.Context, limit time.Duration) error {
	return o.await(ctx, limit, func() (bool, string) {
		return o.count == o.pods, fmt.Sprintf("%d of %d pods are published as ready", o.count, o.pods)
	})
}

// await waits until done, which is asked with the lock held.
func (o *watcher) await(ctx context.Context, limit time.Duration, done func() (bool, string)) error {
	deadline := time.Now().Add(limit)
	for {
		o.mu.Lock()
		ok, what := done()
		err := o.ended
		o.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("after %v %s", limit, what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// takeWrites returns how many writes have been seen since the last call.
func (o *watcher) takeWrites() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.writes
	o.writes = 0
	return n
}
