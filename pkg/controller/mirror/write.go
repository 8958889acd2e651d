package mirror

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// errBehind marks an error which only says that somebody else was quicker.
var errBehind = errors.New("the object has changed meanwhile")

// write makes the writes of a plan in their order. One that fails does not stop
// the others, but what takes away addresses that others should publish first.
func (c *Controller) write(ctx context.Context, k ledger.Key, e *corev1.Endpoints, writes []plan.Write) error {
	if len(writes) == 0 {
		return nil
	}
	var errs []error
	quiet := true // only errBehind so far
	batch := c.mirrored.Begin(k)
	for _, w := range writes {
		if w.Phase == plan.Leftovers && len(errs) > 0 {
			break
		}
		if err := c.one(ctx, batch, w); err != nil {
			quiet = quiet && ledger.IsBehind(err)
			errs = append(errs, fmt.Errorf("%s EndpointSlice %s: %w", w.Verb, nameOf(w), err))
		}
	}
	if batch.End() {
		c.queue.Add(k)
	}
	err := errors.Join(errs...)
	if err != nil && quiet {
		return fmt.Errorf("%w: %w", errBehind, err)
	}
	if err != nil && e != nil && ctx.Err() == nil {
		c.event(e, failed, "Failed to mirror to EndpointSlices: %v", err)
	}
	return err
}

// one makes one write and counts it.
func (c *Controller) one(ctx context.Context, batch *ledger.Batch, w plan.Write) error {
	ctx, cancel := context.WithTimeout(ctx, ledger.RequestTimeout)
	defer cancel()
	err := batch.Do(ctx, c.options.Client, w)
	result := resultOK
	switch {
	case ledger.IsBehind(err):
		result = resultBehind
	case err != nil:
		result = resultError
	}
	c.metrics.writes.WithLabelValues(string(w.Verb), result).Inc()
	if w.Verb == plan.Create && apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // in a namespace that is going away nothing new can be made, and need not
	}
	return err
}

func nameOf(w plan.Write) string {
	if w.Verb == plan.Create {
		return w.Object.GetGenerateName() + "…"
	}
	return w.Object.GetName()
}
