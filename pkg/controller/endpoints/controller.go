package endpoints

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
	"github.com/signpost-dev/signpost/pkg/controller/work"
)

// Recorder makes Events; a record.EventRecorder of client-go is one.
type Recorder interface {
	Eventf(object runtime.Object, eventType, reason, message string, args ...any)
}

// Observer hears of each Service that was planned for whether it has an endpoint
// that new connections go to; it can ask Explain why not. It must not block.
type Observer interface {
	Observe(svc *corev1.Service, usable bool)
}

// Gatekeeper opens verdict.ProgrammedGate of the pods that have it. It is told of
// each state of them, from one goroutine, once it is known to the Controller, which
// it can ask for their Standing. It must not block.
type Gatekeeper interface {
	ObservePod(pod *corev1.Pod)
	ForgetPod(pod *corev1.Pod)
}

// Options are what a Controller is made of.
type Options struct {
	// Client writes, and reads past any cache.
	Client client.Client
	// Shared is the cache of the process's lifetime: Services and EndpointSlices,
	// of which a transform may strip the managed fields, nothing else.
	Shared cache.Cache
	// Term is the cache of this term: Pods, Nodes and Endpoints; TermObjects says
	// how to make it. Both caches are started by the caller, before or after Run.
	Term cache.Cache
	// Endpoints and EndpointSlices switch the two kinds on, each by itself.
	Endpoints, EndpointSlices bool
	// MaxEndpointsPerSlice is 1 to 1000; the stock default is 100.
	MaxEndpointsPerSlice int
	// BatchPeriod is how long a change of a pod waits at least for others to share
	// a write with; with 0, only load makes it wait, see pace. What takes traffic
	// from a pod never waits.
	BatchPeriod time.Duration
	// Concurrency is how many Services are written at once, at least 1.
	Concurrency int
	Registerer  prometheus.Registerer
	Recorder    Recorder // nil: no Events
	Observer    Observer // nil: nobody
	// Gatekeeper may be nil: then a pod that waits for the gate is not published.
	Gatekeeper Gatekeeper
	Log        *slog.Logger
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
	check(o.Endpoints || o.EndpointSlices, "neither Endpoints nor EndpointSlices is on")
	check(o.MaxEndpointsPerSlice >= 1 && o.MaxEndpointsPerSlice <= 1000,
		fmt.Sprintf("MaxEndpointsPerSlice is %d, not 1 to 1000", o.MaxEndpointsPerSlice))
	check(o.BatchPeriod >= 0, fmt.Sprintf("BatchPeriod is %v", o.BatchPeriod))
	check(o.Concurrency >= 1, fmt.Sprintf("Concurrency is %d", o.Concurrency))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("endpoint controller: %w", err)
	}
	return nil
}

func (o *Options) plan() plan.Options {
	return plan.Options{Endpoints: o.Endpoints, EndpointSlices: o.EndpointSlices, MaxEndpointsPerSlice: o.MaxEndpointsPerSlice}
}

// Controller publishes endpoints for one term.
//
// The handlers keep two maps up to date, index and published, and put the names
// of Services that a change touches into a queue; workers take a name, make the
// plan for it from the maps, and write.
//
// A plan must never be made from what the controller itself has already changed,
// or it would write old state back or create slices twice: what is written is
// put into published at once, and events that are older are ignored. What others
// changed in between makes a write fail, as each carries the version that it was
// planned from; the key is then tried again. Hence two controllers at once, as
// may be for a moment when a leader is cut off, do each other's work over at
// worst.
//
// No key is ever given up: the longest wait between two tries is maxBackoff.
//
// A removal is never behind additions: it goes before all of them that wait,
// and the additions of a large plan that is being written make room, see lanes.
// Nothing here limits the rate of writes: there are never more than Concurrency
// times parallelWrites at once, and the server's priority and fairness decides
// how fast each of them is.
type Controller struct {
	options   Options
	log       *slog.Logger
	metrics   *metrics
	queue     *queue
	pace      *pace
	index     *index
	published *ledger.Ledger
	settled   settled
	problems  *problems
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
	p := newPace(o.BatchPeriod)
	c := &Controller{
		options:   o,
		log:       o.Log,
		metrics:   m,
		queue:     newQueue(p, m),
		pace:      p,
		index:     newIndex(),
		published: ledger.New(),
		settled:   settled{by: map[key]versions{}},
		problems:  &problems{recorder: o.Recorder, log: o.Log},
	}
	c.index.tellsPods = o.Gatekeeper != nil
	return c, nil
}

// Run publishes endpoints until ctx is done, and returns nil then. When it
// returns, no handler of it is left with the informers and no goroutine runs. It
// must be called once.
func (c *Controller) Run(ctx context.Context) error {
	defer c.queue.ShutDown()
	var ears listen.Ears
	defer func() {
		if err := ears.Remove(); err != nil {
			c.log.Error("cannot remove a handler", "error", err)
		}
	}()
	if err := c.listen(ctx, &ears); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("endpoint controller: %w", err)
	}
	c.log.Info("endpoint controller works", "services", c.index.len(), "workers", c.options.Concurrency)
	return work.Do(ctx, c.queue, c.options.Concurrency, c.handle, c.sweep)
}
