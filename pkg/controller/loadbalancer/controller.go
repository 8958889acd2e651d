package loadbalancer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer/pool"
	"github.com/signpost-dev/signpost/pkg/controller/work"
)

const (
	// requestTimeout bounds each request.
	requestTimeout = 30 * time.Second
	minBackoff     = 5 * time.Millisecond
	maxBackoff     = 30 * time.Second
	// tellingsPerSecond and tellingBurst bound how many Services are only told
	// something, such as why they have no address: nobody waits for that.
	tellingsPerSecond = 20
	tellingBurst      = 50
)

// Recorder makes Events; a record.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(object runtime.Object, eventType, reason, message string, args ...any)
}

// Options are what a Controller is made of.
type Options struct {
	// Client writes Services, and reads past any cache.
	Client client.Client
	// Pools watches LoadBalancerPools and writes their status.
	Pools client.WithWatch
	// Shared is the cache of the process's lifetime, with Services; Term is that of
	// this term, with what TermObjects says. Both are started by the caller, before
	// or after Run.
	Shared, Term cache.Cache
	// Unclassed also takes the Services without a loadBalancerClass.
	Unclassed bool
	// Concurrency is how many Services are written at once, at least 1.
	Concurrency int
	Registerer  prometheus.Registerer
	Recorder    Recorder // nil: no Events
	Log         *slog.Logger
}

func (o *Options) validate() error {
	switch {
	case o.Client == nil || o.Pools == nil || o.Shared == nil || o.Term == nil:
		return errors.New("load balancer controller: Client, Pools, Shared and Term are needed")
	case o.Registerer == nil || o.Log == nil:
		return errors.New("load balancer controller: Registerer and Log are needed")
	case o.Concurrency < 1:
		return fmt.Errorf("load balancer controller: Concurrency is %d", o.Concurrency)
	}
	return nil
}

// Controller gives addresses for one term. Two at once, as may be for a moment
// when a leader is cut off, cannot both write: each write carries the version of
// the Service that it was made for.
type Controller struct {
	options Options
	log     *slog.Logger
	metrics *metrics
	// queue has the Services to be written, lazy those that are only told something.
	queue, lazy workqueue.TypedRateLimitingInterface[pool.Key]
	limit       *rate.Limiter
	// unsettled and untold hold one element if there is something to decide, and to
	// say of pools.
	unsettled, untold chan struct{}

	mu        sync.Mutex
	allocator *pool.Allocator
	// pools are those that the allocator knows, and installed says that there is the
	// kind. poolsKnown: it has been told.
	pools                 []*v1alpha1.LoadBalancerPool
	installed, poolsKnown bool
	// published are the Services in whose status an address is, and statuses the same
	// by Service.
	published map[netip.Addr]map[pool.Key]struct{}
	statuses  map[pool.Key][]netip.Addr
}

// New returns a Controller for one Run. It may be called any number of times
// with the same Registerer: the metrics go on counting.
func New(o Options) (*Controller, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Controller{
		options: o, log: o.Log, metrics: m,
		queue: newQueue(), lazy: newQueue(), limit: rate.NewLimiter(tellingsPerSecond, tellingBurst),
		unsettled: make(chan struct{}, 1), untold: make(chan struct{}, 1),
		allocator: pool.New(o.Unclassed),
		published: map[netip.Addr]map[pool.Key]struct{}{},
		statuses:  map[pool.Key][]netip.Addr{},
	}, nil
}

func newQueue() workqueue.TypedRateLimitingInterface[pool.Key] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[pool.Key](minBackoff, maxBackoff))
}

// Run gives addresses until ctx is done, and returns nil then. When it returns, no
// handler of it is left with the informers and no goroutine runs. It must be
// called once.
func (c *Controller) Run(ctx context.Context) error {
	defer c.queue.ShutDown()
	defer c.lazy.ShutDown()
	defer c.metrics.clear()
	var ears listen.Ears
	defer func() {
		if err := ears.Remove(); err != nil {
			c.log.Error("cannot remove a handler", "error", err)
		}
	}()
	if err := ears.Add(ctx, c.log, c.sources()...); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("load balancer controller: %w", err)
	}
	if c.catchUp(ctx) != nil {
		return nil // the term is over
	}
	c.log.Info("load balancer controller works", "workers", c.options.Concurrency)
	tellers := func(ctx context.Context) error { return work.Do(ctx, c.lazy, 1, c.handleLazily) }
	return work.Do(ctx, c.queue, c.options.Concurrency, c.handle, c.watchPools, c.settle, c.tellPools, tellers)
}

// settle has the allocator decide, whenever something has changed.
func (c *Controller) settle(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.unsettled:
		}
		c.mu.Lock()
		if !c.poolsKnown {
			c.mu.Unlock()
			continue
		}
		news := c.allocator.Settle()
		pending := c.allocator.Pending()
		c.mu.Unlock()
		c.metrics.setPending(pending)
		for _, k := range news {
			c.queue.Add(k)
		}
		signal(c.untold)
	}
}

// signal puts an element into a channel that holds one.
func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}
