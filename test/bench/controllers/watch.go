package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/bench/world"
)

// watcher sees what is published.
type watcher struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	pods   int

	mu sync.Mutex
	// ready is by address what was published last, and seen when that was.
	ready map[string]bool
	seen  map[string]time.Time
	// count is how many are ready.
	count  int
	writes int
	// resumed is how often the server has ended a watch, as it does to one that
	// cannot follow.
	resumed int
	ended   error
}

// watch begins to watch what is published in the namespace. Call stop in the end.
func (w *cluster) watch(ctx context.Context) (*watcher, error) {
	ctx, cancel := context.WithCancel(ctx)
	o := &watcher{cancel: cancel, pods: len(w.Pods), ready: map[string]bool{}, seen: map[string]time.Time{}}
	// Of Endpoints only the number of writes matters.
	endpoints := &metav1.PartialObjectMetadataList{}
	endpoints.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("EndpointsList"))
	for _, list := range []client.ObjectList{&discoveryv1.EndpointSliceList{}, endpoints} {
		// A list can be had at once, whatever the server's cache has.
		if err := w.List(ctx, list, client.InNamespace(world.Namespace)); err != nil {
			cancel()
			return nil, err
		}
		o.done.Go(func() { o.follow(ctx, w, list, list.GetResourceVersion()) })
	}
	return o, nil
}

func (o *watcher) stop() {
	o.cancel()
	o.done.Wait()
}

// follow watches from a version on, however often it takes a new watch.
func (o *watcher) follow(ctx context.Context, c client.WithWatch, list client.ObjectList, version string) {
	for ctx.Err() == nil {
		events, err := c.Watch(ctx, list, client.InNamespace(world.Namespace), &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}})
		if err == nil {
			version, err = o.read(events, version)
			events.Stop()
		}
		o.mu.Lock()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			o.ended = fmt.Errorf("the watch of %T: %w", list, err)
			o.mu.Unlock()
			return
		default:
			o.resumed++
		}
		o.mu.Unlock()
	}
}

// read reads a watch to its end and returns the version that it has come to.
func (o *watcher) read(events watch.Interface, version string) (string, error) {
	for e := range events.ResultChan() {
		now := time.Now()
		if e.Type == watch.Error {
			return version, apierrors.FromObject(e.Object)
		}
		object, err := meta.Accessor(e.Object)
		if err != nil {
			return version, err
		}
		version = object.GetResourceVersion()
		if e.Type == watch.Deleted { // left over from the contender before
			continue
		}
		o.mu.Lock()
		o.writes++
		if s, ok := e.Object.(*discoveryv1.EndpointSlice); ok {
			for i := range s.Endpoints {
				o.note(s.Endpoints[i].Addresses[0], *s.Endpoints[i].Conditions.Ready, now)
			}
		}
		o.mu.Unlock()
	}
	return version, nil
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

// takeResumed returns how often a watch had to be resumed since the last call:
// until it was, changes were seen late.
func (o *watcher) takeResumed() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.resumed
	o.resumed = 0
	return n
}

// takeWrites returns how many writes have been seen since the last call.
func (o *watcher) takeWrites() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.writes
	o.writes = 0
	return n
}
