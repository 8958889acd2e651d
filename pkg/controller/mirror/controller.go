package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
	"github.com/signpost-dev/signpost/pkg/controller/work"
)

// Recorder makes Events; a record.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(object runtime.Object, eventType, reason, message string, args ...any)
}

// Options are what a Controller is made of.
type Options struct {
	// Client writes, and reads past any cache.
	Client client.Client
	// Shared is the cache of the process's lifetime: Services and EndpointSlices,
	// of which a transform may strip managed fields and kubectl's copy of the
	// object, nothing else.
	Shared cache.Cache
	// Term is the cache of this term: Endpoints, of which the same may be stripped.
	// Both caches are started by the caller, before or after Run.
	Term cache.Cache
	// MaxEndpointsPerSubset is 1 to 1000, which is the stock default.
	MaxEndpointsPerSubset int
	// Concurrency is how many Services are written at once, at least 1.
	Concurrency int
	Registerer  prometheus.Registerer
	Recorder    Recorder // nil: no Events
	Log         *slog.Logger
}

func (o *Options) validate() error {
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	check(o.Client != nil && o.Shared != nil && o.Term != nil, "Client, Shared and Term are needed")
	check(o.Registerer != nil && o.Log != nil, "Registerer and Log are needed")
	check(o.MaxEndpointsPerSubset >= 1 && o.MaxEndpointsPerSubset <= 1000,
		fmt.Sprintf("MaxEndpointsPerSubset is %d, not 1 to 1000", o.MaxEndpointsPerSubset))
	check(o.Concurrency >= 1, fmt.Sprintf("Concurrency is %d", o.Concurrency))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("mirroring controller: %w", err)
	}
	return nil
}

// Controller mirrors Endpoints for one term.
//
// No Service is ever given up: the longest wait between two tries is maxBackoff.
// Two controllers at once, as may be for a moment when a leader is cut off, do
// each other's work over at worst, for each write carries the version that it was
// planned from.
type Controller struct {
	options  Options
	log      *slog.Logger
	metrics  *metrics
	queue    workqueue.TypedRateLimitingInterface[ledger.Key]
	mirrored *ledger.Ledger
	told     told
}

const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = 30 * time.Second
)

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
		options: o,
		log:     o.Log,
		metrics: m,
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[ledger.Key](minBackoff, maxBackoff)),
		mirrored: ledger.New(),
		told:     told{known: map[ledger.Key]losses{}},
	}, nil
}

// Run mirrors until ctx is done, and returns nil then. When it returns, no
// handler of it is left with the informers and no goroutine runs. It must be
// called once.
func (c *Controller) Run(ctx context.Context) error {
	defer c.queue.ShutDown()
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
		return fmt.Errorf("mirroring controller: %w", err)
	}
	c.log.Info("mirroring controller works", "workers", c.options.Concurrency)
	return work.Do(ctx, c.queue, c.options.Concurrency, c.handle, c.sweep)
}

// sweep looks for own writes that are lost.
func (c *Controller) sweep(ctx context.Context) error {
	return c.mirrored.Sweep(ctx, c.options.Client, c.queue.Add, func(time.Time) {})
}
