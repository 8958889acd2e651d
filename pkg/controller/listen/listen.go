package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Source is an informer to listen to: the one of Object's kind in Cache.
type Source struct {
	Cache   cache.Cache
	Object  client.Object
	Handler toolscache.ResourceEventHandler
}

// Ears are the handlers that a controller has with informers. The zero value has
// none. They are for one goroutine.
type Ears struct {
	added []registration
}

type registration struct {
	informer cache.Informer
	handle   toolscache.ResourceEventHandlerRegistration
}

// Add adds handlers and waits until all of the Ears have been told of everything
// that exists, or ctx is done, which is an error. log hears of it if that takes
// long.
func (e *Ears) Add(ctx context.Context, log *slog.Logger, sources ...Source) error {
	for _, s := range sources {
		if err := e.addOne(ctx, s); err != nil {
			return err
		}
	}
	return e.wait(ctx, log)
}

func (e *Ears) addOne(ctx context.Context, s Source) error {
	informer, err := s.Cache.GetInformer(ctx, s.Object, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("get the informer of %T: %w", s.Object, err)
	}
	handle, err := informer.AddEventHandler(s.Handler)
	if err != nil {
		return fmt.Errorf("listen to the informer of %T: %w", s.Object, err)
	}
	e.added = append(e.added, registration{informer, handle})
	return nil
}

func (e *Ears) wait(ctx context.Context, log *slog.Logger) error {
	const complainAfter = 10 * time.Second
	ticker := time.NewTicker(complainAfter)
	defer ticker.Stop()
	for _, r := range e.added {
		for synced := r.handle.HasSyncedChecker(); !toolscache.IsDone(synced); {
			select {
			case <-synced.Done():
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
				log.Info("controller waits for the API server to tell it what exists", "of", synced.Name())
			}
		}
	}
	return nil
}

// Remove takes all handlers off their informers.
func (e *Ears) Remove() error {
	var errs []error
	for _, r := range e.added {
		errs = append(errs, r.informer.RemoveEventHandler(r.handle))
	}
	e.added = nil
	return errors.Join(errs...)
}

// Handler tells of changes of one kind. Changed gets nil for an object that it
// has not told of before; initial says that it was there before the handler.
type Handler[T client.Object] struct {
	Changed func(was, is T, initial bool)
	Deleted func(T)
}

// OnAdd implements toolscache.ResourceEventHandler.
func (h Handler[T]) OnAdd(obj any, initial bool) {
	var none T
	if is, ok := obj.(T); ok {
		h.Changed(none, is, initial)
	}
}

// OnUpdate implements toolscache.ResourceEventHandler. An object that was
// deleted and made again while nobody watched comes as an update.
func (h Handler[T]) OnUpdate(old, obj any) {
	was, ok := old.(T)
	is, ok2 := obj.(T)
	switch {
	case !ok || !ok2:
	case was.GetUID() != is.GetUID():
		h.Deleted(was)
		h.OnAdd(is, false)
	default:
		h.Changed(was, is, false)
	}
}

// OnDelete implements toolscache.ResourceEventHandler.
func (h Handler[T]) OnDelete(obj any) {
	if lost, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = lost.Obj
	}
	if was, ok := obj.(T); ok {
		h.Deleted(was)
	}
}
