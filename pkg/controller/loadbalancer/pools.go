package loadbalancer

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// lookAgain is when pools are listed again after that has failed, also because
// there is no such kind.
const lookAgain = 5 * time.Second

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

// watchPools tells the allocator of pools, until ctx is done. An informer would
// log each time that it looks for a kind that there is not.
func (c *Controller) watchPools(ctx context.Context) error {
	store := poolStore{toolscache.NewStore(toolscache.MetaNamespaceKeyFunc), func(all []any) { c.setPools(all, true) }}
	reflector := toolscache.NewReflectorWithOptions(c.poolLister(), &v1alpha1.LoadBalancerPool{}, store, toolscache.ReflectorOptions{Name: "LoadBalancerPools"})
	told := ""
	for {
		err := reflector.ListAndWatchWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case isAbsent(err):
			c.setPools(nil, false)
			if told != "absent" {
				told = "absent"
				c.log.Info("there is no kind LoadBalancerPool in the cluster: no Service is given an address", "lookAgain", lookAgain)
			}
		case err != nil:
			if told != err.Error() {
				told = err.Error()
				c.log.Warn("LoadBalancerPools not watched, will try again", "error", err)
			}
		default:
			told = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookAgain):
		}
	}
}

func isAbsent(err error) bool { return apierrors.IsNotFound(err) || meta.IsNoMatchError(err) }

func (c *Controller) poolLister() *toolscache.ListWatch {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			var list v1alpha1.LoadBalancerPoolList
			err := c.options.Pools.List(ctx, &list, &client.ListOptions{Raw: &o})
			return &list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return c.options.Pools.Watch(ctx, &v1alpha1.LoadBalancerPoolList{}, &client.ListOptions{Raw: &o})
		},
	}
}

// setPools replaces the allocator's pools. A new status of one is no news to it.
func (c *Controller) setPools(all []any, installed bool) {
	var pools []*v1alpha1.LoadBalancerPool
	for _, o := range all {
		if p, ok := o.(*v1alpha1.LoadBalancerPool); ok {
			pools = append(pools, p)
		}
	}
	c.mu.Lock()
	news := !c.poolsKnown || c.installed != installed || !sameSpecs(c.pools, pools)
	if news {
		c.allocator.SetPools(pools, installed)
	}
	c.pools, c.installed, c.poolsKnown = pools, installed, true
	c.mu.Unlock()
	if news {
		signal(c.unsettled)
	}
	signal(c.untold)
}

func sameSpecs(a, b []*v1alpha1.LoadBalancerPool) bool {
	versions := map[string]int64{}
	for _, p := range a {
		versions[string(p.UID)] = p.Generation
	}
	for _, p := range b {
		if g, is := versions[string(p.UID)]; !is || g != p.Generation {
			return false
		}
	}
	return len(a) == len(b)
}
