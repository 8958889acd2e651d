package backends

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
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
	"github.com/signpost-dev/signpost/pkg/controller/work"
)

const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = 30 * time.Second
	// tellingsPerSecond and tellingBurst bound the writes of conditions.
	tellingsPerSecond = 10
	tellingBurst      = 20
	// askers is how many Services' backends are asked about at once.
	askers = 32
	// resolvers is how many Services' names are resolved at once.
	resolvers = 4
)

// Recorder makes Events; a record.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(object runtime.Object, eventType, reason, message string, args ...any)
}

// Nodes are those that check backends. It must be safe for concurrent use.
type Nodes interface {
	// Able returns those that can be asked now, this one among them, and how many
	// there are in all, at least 1.
	Able() (names []string, all int)
	// Ask returns what these nodes find of a backend: of those that reply in time,
	// in the order of names.
	Ask(ctx context.Context, names []string, backend check.Key) []verdict.Finding
}

// Resolver finds the addresses of names, of one family. An error says why there are
// none. It must be safe for concurrent use.
type Resolver interface {
	Resolve(ctx context.Context, name string, ipv4 bool) ([]netip.Addr, error)
}

// Options are what a Controller is made of.
type Options struct {
	// Client writes, and reads past any cache.
	Client client.Client
	// Shared is the cache of the process's lifetime: Services and EndpointSlices. It
	// is started by the caller, before or after Run.
	Shared cache.Cache
	// Slices returns the slices of Shared that bear the name of a Service.
	Slices func(context.Context, ledger.Key) ([]*discoveryv1.EndpointSlice, error)
	Nodes  Nodes
	// Resolver resolves names.
	Resolver Resolver
	// Retire takes back what was published, and publishes nothing.
	Retire bool
	// Concurrency is how many Services are written at once, at least 1.
	Concurrency int
	Registerer  prometheus.Registerer
	Recorder    Recorder // nil: no Events
	Log         *slog.Logger
}

func (o *Options) validate() error {
	switch {
	case o.Client == nil || o.Shared == nil || o.Slices == nil || o.Nodes == nil || o.Resolver == nil:
		return errors.New("external backends: Client, Shared, Slices, Nodes and Resolver are needed")
	case o.Registerer == nil || o.Log == nil:
		return errors.New("external backends: Registerer and Log are needed")
	case o.Concurrency < 1:
		return fmt.Errorf("external backends: Concurrency is %d", o.Concurrency)
	}
	return nil
}

// Controller publishes which backends work, for one term. Two at once, as may be
// for a moment when a leader is cut off, make slices of the same names, and each
// write carries the version that it was planned from.
type Controller struct {
	options Options
	log     *slog.Logger
	metrics *metrics
	// queue has the Services to plan for, asking those whose backends to ask about,
	// resolving those with names, and telling those whose condition to look at.
	queue, asking, resolving, telling workqueue.TypedRateLimitingInterface[ledger.Key]
	limit                             *rate.Limiter
	ours                              *ledger.Ledger

	mu       sync.Mutex
	services map[ledger.Key]*state
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
		queue: newQueue(), asking: newQueue(), resolving: newQueue(), telling: newQueue(),
		limit: rate.NewLimiter(tellingsPerSecond, tellingBurst),
		ours:  ledger.New(), services: map[ledger.Key]*state{},
	}, nil
}

func newQueue() workqueue.TypedRateLimitingInterface[ledger.Key] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[ledger.Key](minBackoff, maxBackoff))
}

// Run publishes until ctx is done, and returns nil then. When it returns, no
// handler of it is left with the informers and no goroutine runs. It must be
// called once.
func (c *Controller) Run(ctx context.Context) error {
	for _, q := range []workqueue.TypedRateLimitingInterface[ledger.Key]{c.queue, c.asking, c.resolving, c.telling} {
		defer q.ShutDown()
	}
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
		return fmt.Errorf("external backends: %w", err)
	}
	c.log.Info("controller of external backends works", "workers", c.options.Concurrency, "retire", c.options.Retire)
	return work.Do(ctx, c.queue, c.options.Concurrency, c.handle,
		c.sweep,
		func(ctx context.Context) error { return work.Do(ctx, c.asking, askers, c.ask) },
		func(ctx context.Context) error { return work.Do(ctx, c.resolving, resolvers, c.resolve) },
		func(ctx context.Context) error { return work.Do(ctx, c.telling, 1, c.tell) },
	)
}

// sweep looks for own writes that are lost.
func (c *Controller) sweep(ctx context.Context) error {
	return c.ours.Sweep(ctx, c.options.Client, c.queue.Add, func(time.Time) { c.count() })
}
