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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

const (
	// requestTimeout bounds each request, so that a dead connection does not hold
	// a worker for ever.
	requestTimeout = 30 * time.Second
	// parallelWrites is how many writes of one Service are under way at once.
	parallelWrites = 8
)

// errBehind marks an error which only says that somebody else was quicker.
var errBehind = errors.New("the object has changed meanwhile")

// errYield says that a plan was cut short to make room for a removal.
var errYield = errors.New("a removal goes first")

// writer makes the writes of one plan.
type writer struct {
	*Controller
	key     key
	service *corev1.Service // nil if there is none any more

	mu sync.Mutex
	// versions are those of objects that this plan has written: a second write
	// starts from the first one's result.
	versions map[entryID]string
	errs     []error
	// quiet is true as long as all errs are errBehind.
	quiet bool
	// yielded is true if not all additions of the plan were made.
	yielded bool
}

// write makes the writes of p, phase by phase.
func (c *Controller) write(ctx context.Context, k key, svc *corev1.Service, p plan.Plan) error {
	if len(p.Writes) == 0 {
		return nil
	}
	w := &writer{Controller: c, key: k, service: svc, versions: map[entryID]string{}, quiet: true}
	c.published.begin(k)
	c.pace.begin(k, time.Now())
	for _, phase := range []plan.Phase{plan.Removals, plan.Additions, plan.Leftovers} {
		if phase == plan.Leftovers && len(w.errs) > 0 || w.yielded {
			break
		}
		w.phase(ctx, p, phase)
	}
	c.pace.end(k, time.Now())
	if c.published.end(k) {
		c.queue.Add(k)
	}
	if w.yielded && len(w.errs) == 0 {
		return errYield
	}
	if !p.Trigger.IsZero() && len(w.errs) == 0 {
		c.metrics.latency.Observe(time.Since(p.Trigger).Seconds())
	}
	return w.err()
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

// one makes one write. The object is copied, for the client writes the answer
// into what it is given, and the plan's objects share memory with the caches.
func (w *writer) one(ctx context.Context, one plan.Write) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	defer w.measure()()
	o, ok := one.Object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no object", one.Object)
	}
	w.mu.Lock()
	if v, again := w.versions[idOf(o)]; again && one.Verb != plan.Create {
		o.SetResourceVersion(v)
	}
	w.mu.Unlock()
	switch one.Verb {
	case plan.Create:
		if err := w.options.Client.Create(ctx, o); err != nil {
			return err
		}
	case plan.Update:
		if err := w.options.Client.Update(ctx, o); err != nil {
			if apierrors.IsNotFound(err) {
				w.published.removed(w.key, one.Object, time.Now())
			}
			return err
		}
	case plan.Delete:
		return w.delete(ctx, o)
	}
	w.mu.Lock()
	w.versions[idOf(o)] = o.GetResourceVersion()
	w.mu.Unlock()
	w.published.wrote(w.key, o, time.Now())
	return nil
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

func (w *writer) delete(ctx context.Context, o client.Object) error {
	err := w.options.Client.Delete(ctx, o, client.Preconditions{
		UID: new(o.GetUID()), ResourceVersion: new(o.GetResourceVersion()),
	})
	if err == nil || apierrors.IsNotFound(err) {
		w.published.removed(w.key, o, time.Now())
		return nil
	}
	return err
}

// note counts a write and keeps its error.
func (w *writer) note(one plan.Write, err error) {
	kind, result := kindOf(one.Object), resultOK
	behind := isBehind(err)
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

// isBehind says whether the server refused because of what others wrote.
func isBehind(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
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
