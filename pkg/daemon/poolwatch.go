package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/announce/eligible"
	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/model"
)

// poolWatch knows the LoadBalancerPools, for which nodes may announce what. It
// watches them from when somebody needs them: without addresses that are given
// out, no node asks for them, nor whether there is such a kind.
type poolWatch struct {
	client client.WithWatch
	log    *slog.Logger
	needed chan struct{}
	once   sync.Once
	latest atomic.Pointer[poolList]
}

func newPoolWatch(conn *connection, log *slog.Logger) (*poolWatch, error) {
	c, err := conn.pools()
	if err != nil {
		return nil, err
	}
	return &poolWatch{client: c, log: log, needed: make(chan struct{})}, nil
}

// known returns the pools as they are now, nil as long as that is not known. It is
// not changed any more. Safe for concurrent use.
func (w *poolWatch) known() *poolList {
	w.once.Do(func() { close(w.needed) })
	return w.latest.Load()
}

// poolsAgain is when pools are listed again after that has failed.
const poolsAgain = 5 * time.Second

// run watches pools until ctx is done, once they are needed.
func (w *poolWatch) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.needed:
	}
	store := toolscache.NewStore(toolscache.MetaNamespaceKeyFunc)
	reflector := toolscache.NewReflectorWithOptions(w.lister(), &v1alpha1.LoadBalancerPool{}, poolStore{store, w.take},
		toolscache.ReflectorOptions{Name: "LoadBalancerPools of this node"})
	told := ""
	for {
		err := reflector.ListAndWatchWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
			w.take(nil) // they have been there when the addresses were given out
		case err != nil && told != err.Error():
			told = err.Error()
			w.log.Warn("LoadBalancerPools not watched, will try again", "error", err)
		case err == nil:
			told = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(poolsAgain):
		}
	}
}

func (w *poolWatch) lister() *toolscache.ListWatch {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			var list v1alpha1.LoadBalancerPoolList
			err := w.client.List(ctx, &list, &client.ListOptions{Raw: &o})
			return &list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			return w.client.Watch(ctx, &v1alpha1.LoadBalancerPoolList{}, &client.ListOptions{Raw: &o})
		},
	}
}

// take takes over pools. A new status of one is no news.
func (w *poolWatch) take(objects []any) {
	next := &poolList{}
	for _, o := range objects {
		if p, ok := o.(*v1alpha1.LoadBalancerPool); ok {
			next.pools = append(next.pools, p)
		}
	}
	slices.SortFunc(next.pools, func(a, b *v1alpha1.LoadBalancerPool) int {
		if a.Precedes(b) {
			return -1
		}
		return 1
	})
	same := func(a, b *v1alpha1.LoadBalancerPool) bool { return a.UID == b.UID && a.Generation == b.Generation }
	if was := w.latest.Load(); was == nil || !slices.EqualFunc(was.pools, next.pools, same) {
		w.latest.Store(next)
	}
}

// poolStore is what a reflector writes pools into.
type poolStore struct {
	toolscache.Store
	changed func([]any)
}

func (s poolStore) Add(o any) error    { return s.tell(s.Store.Add(o)) }
func (s poolStore) Update(o any) error { return s.tell(s.Store.Update(o)) }
func (s poolStore) Delete(o any) error { return s.tell(s.Store.Delete(o)) }

func (s poolStore) Replace(all []any, version string) error {
	return s.tell(s.Store.Replace(all, version))
}

func (s poolStore) tell(err error) error {
	if err == nil {
		s.changed(s.List())
	}
	return err
}

// poolList are pools, those that precede others first.
type poolList struct{ pools []*v1alpha1.LoadBalancerPool }

// seenBy returns what the pools say to a node. One whose selector cannot be read is
// for no node; the leader says so in its status.
func (l *poolList) seenBy(node *model.Node) []eligible.Pool {
	var out []eligible.Pool
	for _, p := range l.pools {
		ranges, _ := p.Spec.Ranges() // what cannot be read has no addresses
		pool := eligible.Pool{Ranges: ranges, Here: p.Spec.NodeSelector == nil, Interfaces: p.Spec.Interfaces}
		if p.Spec.NodeSelector != nil {
			selector, err := metav1.LabelSelectorAsSelector(p.Spec.NodeSelector)
			pool.Here = err == nil && selector.Matches(labels.Set(node.Labels))
		}
		out = append(out, pool)
	}
	return out
}
