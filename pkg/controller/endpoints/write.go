package endpoints

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// parallelWrites is how many writes of one Service are under way at once.
const parallelWrites = 8

// errBehind marks an error which only says that somebody else was quicker.
var errBehind = errors.New("the object has changed meanwhile")

// errYield says that a plan was cut short to make room for a removal.
var errYield = errors.New("a removal goes first")

// writer makes the writes of one plan.
type writer struct {
	*Controller
	key     key
	service *corev1.Service // nil if there is none any more
	batch   *ledger.Batch

	mu   sync.Mutex
	errs []error
	// quiet is true as long as all errs are errBehind.
	quiet bool
	// yielded is true if not all additions of the plan were made.
	yielded bool
}

// write makes the writes of p, phase by phase, and returns the versions of what it
// has created and updated.
func (c *Controller) write(ctx context.Context, k key, svc *corev1.Service, p plan.Plan) (map[ledger.ID]string, error) {
	if len(p.Writes) == 0 {
		return nil, nil
	}
	w := &writer{Controller: c, key: k, service: svc, batch: c.published.Begin(k), quiet: true}
	c.pace.begin(k, time.Now())
	for _, phase := range []plan.Phase{plan.Removals, plan.Additions, plan.Leftovers} {
		if phase == plan.Leftovers && len(w.errs) > 0 || w.yielded {
			break
		}
		w.phase(ctx, p, phase)
	}
	c.pace.end(k, time.Now())
	if w.batch.End() {
		c.queue.Add(k)
	}
	if w.yielded && len(w.errs) == 0 {
		return nil, errYield
	}
	if !p.Trigger.IsZero() && len(w.errs) == 0 {
		c.metrics.latency.Observe(time.Since(p.Trigger).Seconds())
	}
	return w.batch.Written(), w.err()
}

// phase makes the writes of one phase. Many additions make room for a removal
// that has come meanwhile, but some are made in any case, so that there is an end
// to it.
func (w *writer) phase(ctx context.Context, p plan.Plan, phase plan.Phase) {
	var g errgroup.Group
	g.SetLimit(parallelWrites)
	begun := 0
	for _, one := range p.Writes {
		if one.Phase != phase {
			continue
		}
		if phase != plan.Removals && begun >= parallelWrites && w.queue.lanes.pressing(w.key) {
			w.yielded = true
			break
		}
		begun++
		g.Go(func() error {
			w.note(one, w.one(ctx, one))
			return nil
		})
	}
	_ = g.Wait() // each write notes its own error: one must not stop the others
}

// one makes one write.
func (w *writer) one(ctx context.Context, one plan.Write) error {
	ctx, cancel := context.WithTimeout(ctx, ledger.RequestTimeout)
	defer cancel()
	defer w.measure()()
	return w.batch.Do(ctx, w.options.Client, one)
}

// measure notes that a write begins, and returns what notes that it has ended.
func (w *writer) measure() (ended func()) {
	began := time.Now()
	w.pace.started()
	w.metrics.inFlight.Inc()
	return func() {
		w.metrics.inFlight.Dec()
		w.pace.ended(time.Since(began))
	}
}

// note counts a write and keeps its error.
func (w *writer) note(one plan.Write, err error) {
	kind, result := kindOf(one.Object), resultOK
	behind := ledger.IsBehind(err)
	switch {
	case behind:
		result = resultBehind
	case err != nil:
		result = resultError
	}
	w.metrics.writes.WithLabelValues(kind, string(one.Verb), result).Inc()
	if err == nil || (one.Verb == plan.Create && apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)) {
		// In a namespace that is going away nothing new can be made, and need not.
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quiet = w.quiet && behind
	w.errs = append(w.errs, fmt.Errorf("%s %s %s: %w", one.Verb, kind, nameOf(one.Object), err))
	if !behind && !errors.Is(err, context.Canceled) && w.service != nil && w.options.Recorder != nil {
		w.options.Recorder.Eventf(w.service, corev1.EventTypeWarning, "FailedToUpdate"+kind,
			"Failed to %s %s %s for Service %v: %v", one.Verb, kind, nameOf(one.Object), w.key, err)
	}
}

func (w *writer) err() error {
	err := errors.Join(w.errs...)
	if err != nil && w.quiet {
		return fmt.Errorf("%w: %w", errBehind, err)
	}
	return err
}

func kindOf(o plan.Object) string {
	if _, ok := o.(*corev1.Endpoints); ok {
		return "Endpoints"
	}
	return "EndpointSlice"
}

func nameOf(o metav1.Object) string {
	if o.GetName() == "" {
		return o.GetGenerateName() + "…"
	}
	return o.GetName()
}
