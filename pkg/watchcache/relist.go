package watchcache

import (
	"context"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// relist knows when EndpointSlices come from a list: the first one, and each that
// follows a watch which the server could not continue. The handlers are then told
// the differences in any order, so that a high version says nothing of lower
// ones. What can be relied on is the informer's store, which changes over to the
// list as a whole. It is safe for concurrent use.
type relist struct {
	// ended is called, from any goroutine, when a list is complete.
	ended func()

	mu    sync.Mutex
	store toolscache.Store // nil until there is an informer
	open  bool
	// version is that of the list, 0 until it is complete.
	version uint64
	// held is the highest version that events have told of since the list began.
	held uint64
}

// claim says up to which version all slices are noted, or 0 if that is not known,
// given the highest one of the events noted since the last call. If whole is true
// that holds only if all slices in the store are noted as well. If again is true,
// it is worth asking again in a moment.
func (r *relist) claim(noted uint64) (version uint64, whole, again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		return noted, false, false
	}
	r.held = max(r.held, noted)
	if r.version == 0 {
		return 0, false, false
	}
	if versionOf(r.store.LastStoreSyncResourceVersion()) < r.version {
		return 0, false, true
	}
	// Events after the list come in order again, so held needs no more than the
	// list if it is beyond that.
	version = max(r.version, r.held)
	r.open, r.version, r.held = false, 0, 0
	return version, true, false
}

func (r *relist) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.version = true, 0
}

func (r *relist) end(version uint64) {
	r.mu.Lock()
	r.version = version
	r.mu.Unlock()
	r.ended()
}

// newInformer is for cache.Options.NewInformer.
func (r *relist) newInformer(source toolscache.ListerWatcher, kind runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	if _, slices := kind.(*discoveryv1.EndpointSlice); !slices {
		return toolscache.NewSharedIndexInformer(source, kind, resync, indexers)
	}
	r.begin()
	informer := toolscache.NewSharedIndexInformer(&overheard{toolscache.ToListerWatcherWithContext(source), r}, kind, resync, indexers)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store = informer.GetStore()
	return informer
}

// overheard is a source that tells relist of the lists that are asked of it.
type overheard struct {
	source toolscache.ListerWatcherWithContext
	relist *relist
}

// List implements toolscache.ListerWatcher, which informers do not call if there
// is ListWithContext.
func (o *overheard) List(options metav1.ListOptions) (runtime.Object, error) {
	return o.ListWithContext(context.Background(), options)
}

// Watch is to WatchWithContext what List is to ListWithContext.
func (o *overheard) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return o.WatchWithContext(context.Background(), options)
}

// ListWithContext implements toolscache.ListerWatcherWithContext. Of a list in
// pages each page has the version of the whole.
func (o *overheard) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	o.relist.begin()
	list, err := o.source.ListWithContext(ctx, options)
	if err != nil {
		return nil, err
	}
	if m, err := meta.ListAccessor(list); err == nil && m.GetContinue() == "" {
		o.relist.end(versionOf(m.GetResourceVersion()))
	}
	return list, nil
}

// WatchWithContext implements toolscache.ListerWatcherWithContext.
func (o *overheard) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if options.SendInitialEvents == nil || !*options.SendInitialEvents {
		return o.source.WatchWithContext(ctx, options)
	}
	o.relist.begin()
	stream, err := o.source.WatchWithContext(ctx, options)
	if err != nil {
		return nil, err
	}
	return watch.Filter(stream, func(e watch.Event) (watch.Event, bool) {
		if e.Type == watch.Bookmark {
			if m, err := meta.Accessor(e.Object); err == nil && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
				o.relist.end(versionOf(m.GetResourceVersion()))
			}
		}
		return e, true
	}), nil
}
