package watchcache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/watchcache/translate"
)

// ownerIndex finds the EndpointSlices of a Service without a walk over all.
const ownerIndex = "signpost.owner"

// Options are what a Cache needs.
type Options struct {
	// Config and HTTPClient say how to reach the API server.
	Config     *rest.Config
	HTTPClient *http.Client
	// NodeName is the name of the Node object that this process serves.
	NodeName   string
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// OnProblem is told of each problem of a Service that the Service before did
	// not have. It must not block. May be nil.
	OnProblem func(*model.Service, model.Problem)
}

// Cache watches the cluster and publishes what it sees as Snapshots.
//
// One goroutine makes the Snapshots, in order; the handlers of the watches only
// note the names of what changed. So a burst of events while a Snapshot is made
// costs one more Snapshot, and the work for each is that of the names noted.
// Snapshot and Subscribe may be called from any goroutine.
type Cache struct {
	opts   Options
	shared cache.Cache
	latest atomic.Pointer[model.Snapshot]
	noted  *notebook
	// relist and contained know which versions of EndpointSlices the Snapshots have.
	relist    relist
	contained contained
	// memo is of the goroutine of Run.
	memo translate.Memo

	mu          sync.Mutex
	subscribers []chan struct{}

	metrics metrics
}

// New makes a Cache. It asks the API server for nothing yet.
func New(opts Options) (*Cache, error) {
	c := &Cache{opts: opts, noted: newNotebook()}
	c.relist.ended = c.noted.wake
	shared, err := newShared(opts.Config, opts.HTTPClient, opts.NodeName, c.relist.newInformer)
	if err != nil {
		return nil, err
	}
	c.shared = shared
	c.metrics = newMetrics(opts.Registerer, func() *model.Snapshot { return c.latest.Load() })
	return c, nil
}

// Shared returns the cache of API objects that Snapshots are made from, for
// controllers to read and to add handlers to. Its objects must not be changed.
func (c *Cache) Shared() cache.Cache { return c.shared }

// Snapshot returns the newest Snapshot, or nil until the first complete one.
func (c *Cache) Snapshot() *model.Snapshot { return c.latest.Load() }

// Contained returns a resource version up to which all writes of EndpointSlices
// are in the Snapshot of that generation, as far as they matter to it; 0 if there
// is none. It is meant for the generation that is in force now: what it knows of
// earlier ones may be forgotten. It is safe for concurrent use.
//
// A slice counts as soon as it has been looked at. If its Service is not known
// yet, whose watch is another one, nothing of the slice is in the Snapshot.
func (c *Cache) Contained(generation uint64) uint64 { return c.contained.at(generation) }

// Subscribe returns a new channel that receives after each publication. It holds
// one signal: who comes late finds it, and reads the newest Snapshot.
func (c *Cache) Subscribe() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan struct{}, 1)
	if c.latest.Load() != nil {
		ch <- struct{}{}
	}
	c.subscribers = append(c.subscribers, ch)
	return ch
}

// Run watches until ctx ends, which it returns nil for. While the API server
// cannot be reached the last Snapshot stands.
func (c *Cache) Run(ctx context.Context) error {
	synced, err := c.watch(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- c.shared.Start(ctx) }()
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return <-stopped
	}
	for {
		if err := c.publish(ctx); err != nil && ctx.Err() == nil {
			cancel()
			return errors.Join(err, <-stopped)
		}
		select {
		case <-c.noted.signal:
		case err := <-stopped:
			return err
		}
	}
}

// watch starts to note changes of each kind, and returns what tells that all
// that existed has been noted.
func (c *Cache) watch(ctx context.Context) ([]toolscache.InformerSynced, error) {
	err := c.shared.IndexField(ctx, &discoveryv1.EndpointSlice{}, ownerIndex, func(o client.Object) []string {
		if owner, ok := translate.OwnerOf(o.(*discoveryv1.EndpointSlice)); ok {
			return []string{owner.Name}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("indexing EndpointSlices: %w", err)
	}
	var synced []toolscache.InformerSynced
	for kind, note := range map[client.Object]func(old, now client.Object){
		&corev1.Service{}:            func(_, o client.Object) { c.noted.service(translate.NameOf(o)) },
		&discoveryv1.EndpointSlice{}: c.noteSlice,
		namespaceKind():              func(_, o client.Object) { c.noted.namespace(o.GetName()) },
		&corev1.Node{}:               func(_, _ client.Object) { c.noted.node() },
		&networkingv1.ServiceCIDR{}:  func(_, _ client.Object) { c.noted.serviceCIDRs() },
	} {
		// Do not wait for the first list here: without a server that would
		// keep Run from ever reaching Start.
		informer, err := c.shared.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", kind, err)
		}
		registration, err := informer.AddEventHandler(handler(note))
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", kind, err)
		}
		// ServiceCIDRs only add to what there is, and servers before 1.33 have
		// none: they may come late or never.
		if _, late := kind.(*networkingv1.ServiceCIDR); !late {
			synced = append(synced, registration.HasSynced)
		}
	}
	return synced, nil
}

// noteSlice notes the Service that a slice belongs to, and the one that it
// belonged to before.
func (c *Cache) noteSlice(old, now client.Object) {
	owners := make([]model.Name, 0, 2)
	for _, o := range []client.Object{old, now} {
		if slice, ok := o.(*discoveryv1.EndpointSlice); ok && slice != nil {
			if owner, ok := translate.OwnerOf(slice); ok {
				owners = append(owners, owner)
			}
		}
	}
	c.noted.slice(versionOf(now.GetResourceVersion()), owners...)
}

func handler(note func(old, now client.Object)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { note(nil, o.(client.Object)) },
		UpdateFunc: func(old, now any) { note(old.(client.Object), now.(client.Object)) },
		DeleteFunc: func(o any) {
			if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if o, ok := o.(client.Object); ok {
				note(o, o)
			}
		},
	}
}

// publish makes the Snapshot that follows from what was noted.
func (c *Cache) publish(ctx context.Context) error {
	started := time.Now()
	prev := c.latest.Load()
	noted := c.noted.take()
	version, relisted, err := c.claim(ctx, &noted)
	if err != nil {
		return err
	}
	changes, err := c.changes(ctx, noted)
	if err != nil {
		return err
	}
	next := translate.Next(prev, changes)
	if relisted {
		c.contained.fall(next.Generation, version)
	}
	c.contained.climb(next.Generation, version)
	if next == prev {
		return nil
	}
	c.tellProblems(prev, changes.Services)
	c.latest.Store(next)
	c.metrics.built.Observe(time.Since(started).Seconds())
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
	return nil
}

// afterList is how long to wait until it is looked again whether the store has
// the list that has just come.
const afterList = 10 * time.Millisecond

// claim returns up to which version the noted EndpointSlices are all that there
// are. After a list it notes those in the store for that.
func (c *Cache) claim(ctx context.Context, noted *notes) (version uint64, relisted bool, err error) {
	version, relisted, again := c.relist.claim(noted.slices)
	if again {
		time.AfterFunc(afterList, c.noted.wake)
	}
	if !relisted {
		return version, false, nil
	}
	var list discoveryv1.EndpointSliceList
	if err := c.shared.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return 0, false, fmt.Errorf("reading the EndpointSlices: %w", err)
	}
	for i := range list.Items {
		if owner, ok := translate.OwnerOf(&list.Items[i]); ok {
			noted.service(owner)
		}
	}
	return version, true, nil
}

// changes reads the present state of all that was noted.
func (c *Cache) changes(ctx context.Context, noted notes) (translate.Changes, error) {
	ch := translate.Changes{Services: make(map[model.Name]*model.Service, len(noted.services))}
	for name := range noted.services {
		svc, err := c.service(ctx, name)
		if err != nil {
			return ch, err
		}
		ch.Services[name] = svc
	}
	if len(noted.namespaces) > 0 {
		ch.Namespaces = make(map[string]bool, len(noted.namespaces))
	}
	for name := range noted.namespaces {
		found, err := c.get(ctx, client.ObjectKey{Name: name}, namespaceKind())
		if err != nil {
			return ch, err
		}
		ch.Namespaces[name] = found
	}
	if noted.node || c.latest.Load() == nil {
		node := &corev1.Node{}
		found, err := c.get(ctx, client.ObjectKey{Name: c.opts.NodeName}, node)
		if err != nil {
			return ch, err
		}
		if !found {
			node = nil
		}
		translated := translate.Node(node, c.opts.NodeName)
		ch.Node = &translated
	}
	if noted.cidrs {
		var list networkingv1.ServiceCIDRList
		if err := c.shared.List(ctx, &list); err != nil {
			return ch, fmt.Errorf("reading the ServiceCIDRs: %w", err)
		}
		objects := make([]*networkingv1.ServiceCIDR, len(list.Items))
		for i := range list.Items {
			objects[i] = &list.Items[i]
		}
		ch.ServiceCIDRs, ch.AllServiceCIDRs = translate.ServiceCIDRs(objects), true
	}
	return ch, nil
}

func (c *Cache) service(ctx context.Context, name model.Name) (*model.Service, error) {
	svc := &corev1.Service{}
	found, err := c.get(ctx, client.ObjectKey{Namespace: name.Namespace, Name: name.Name}, svc)
	if err != nil || !found {
		c.memo.Forget(name)
		return nil, err
	}
	endpointSlices, err := c.SlicesOf(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.memo.Service(svc, endpointSlices), nil
}

// SlicesOf returns the EndpointSlices that bear the name of a Service, which must not
// be changed. It is safe for concurrent use, while the Cache runs.
func (c *Cache) SlicesOf(ctx context.Context, name model.Name) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := c.shared.List(ctx, &list, client.InNamespace(name.Namespace), client.MatchingFields{ownerIndex: name.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("reading the EndpointSlices of %s: %w", name, err)
	}
	out := make([]*discoveryv1.EndpointSlice, len(list.Items))
	for i := range list.Items {
		out[i] = &list.Items[i]
	}
	return out, nil
}

func (c *Cache) get(ctx context.Context, key client.ObjectKey, into client.Object) (found bool, err error) {
	yes := true
	err = c.shared.Get(ctx, key, into, &client.GetOptions{UnsafeDisableDeepCopy: &yes})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %T %s: %w", into, key, err)
	}
	return true, nil
}

// tellProblems reports each problem once, when it appears.
func (c *Cache) tellProblems(prev *model.Snapshot, changed map[model.Name]*model.Service) {
	for name, svc := range changed {
		if svc == nil {
			continue
		}
		known := map[model.Problem]bool{}
		if prev != nil {
			if before := prev.Services.Get(name); before != nil {
				for _, p := range before.Problems {
					known[p] = true
				}
			}
		}
		for _, p := range svc.Problems {
			if known[p] {
				continue
			}
			c.opts.Log.Warn("part of a Service cannot be used", "service", name.String(), "field", p.Field, "problem", p.Message)
			if c.opts.OnProblem != nil {
				c.opts.OnProblem(svc, p)
			}
		}
	}
}
