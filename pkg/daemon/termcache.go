package daemon

import (
	"context"
	"errors"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// termCache is a running cache of what only the leader watches, and the next in
// line.
type termCache struct {
	cache.Cache
	cancel context.CancelFunc
	// done is closed when Start has returned err.
	done chan struct{}
	err  error
}

// startCache starts the cache of a term, and the watches that the term needs. It
// lasts until it is stopped: it may have been started by a standby, and must not
// end before the controllers on it do.
func (l *leader) startCache(ctx context.Context) (*termCache, error) {
	kinds := termObjects(&l.cfg.Controllers)
	inner, err := watchcache.NewTerm(l.conn.config, l.conn.httpClient, kinds)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t := &termCache{Cache: inner, cancel: cancel, done: make(chan struct{})}
	for kind := range kinds {
		if _, err := t.GetInformer(ctx, kind, cache.BlockUntilSynced(false)); err != nil {
			cancel()
			return nil, err
		}
	}
	go func() { // ends with ctx; stop waits for it
		defer close(t.done)
		t.err = t.Start(ctx)
	}()
	return t, nil
}

// termObjects are those that one of the controllers looks at.
func termObjects(c *v1alpha1.Controllers) map[client.Object]cache.ByObject {
	out := endpoints.TermObjects()
	maps.DeleteFunc(out, func(kind client.Object, _ cache.ByObject) bool { return !watches(c, kind) })
	if c.LoadBalancer.Enabled {
		maps.Copy(out, loadbalancer.TermObjects())
	}
	return out
}

// watches says whether the controllers of endpoints look at a kind of object: to
// watch Pods in vain is dear.
func watches(c *v1alpha1.Controllers, kind client.Object) bool {
	if _, is := kind.(*corev1.Endpoints); is {
		return c.Endpoints.Enabled || c.EndpointSliceMirroring.Enabled
	}
	return c.Endpoints.Enabled || c.EndpointSlice.Enabled
}

// run waits until ctx is done, or returns why the cache has ended before.
func (t *termCache) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-t.done:
		return errors.Join(errors.New("the cache of the term has ended"), t.err)
	}
}

// failed says whether the cache has ended by itself.
func (t *termCache) failed() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// stop stops the cache and returns when nothing of it runs any more.
func (t *termCache) stop() {
	t.cancel()
	<-t.done
}

// standby keeps the cache of the term warm while this node is the next in line.
func (l *leader) standby(ctx context.Context, next bool) {
	if l.warm != nil {
		l.warm.stop()
		l.warm = nil
	}
	if !next {
		return
	}
	warm, err := l.startCache(ctx)
	if err != nil {
		l.log.Warn("the next in line cannot watch ahead of its term", "error", err)
		return
	}
	l.warm = warm
	l.log.Info("next in line to lead: the term's cache is kept warm")
}

// cache returns the warm cache, or a new one.
func (l *leader) cache(ctx context.Context) (*termCache, error) {
	warm := l.warm
	l.warm = nil
	switch {
	case warm == nil:
	case warm.failed():
		warm.stop()
	default:
		return warm, nil
	}
	return l.startCache(ctx)
}
