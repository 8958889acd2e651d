package endpoints

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// handle plans and writes for one Service, and sees to it that it is tried again
// if that fails.
func (c *Controller) handle(ctx context.Context, k key) {
	began := time.Now()
	err := c.syncSafely(ctx, k)
	c.metrics.syncs.Observe(time.Since(began).Seconds())
	switch {
	case err == nil:
		c.queue.Forget(k)
		return
	case ctx.Err() != nil:
		return // the term is over
	case errors.Is(err, errYield):
		c.metrics.yields.Inc()
		c.queue.Add(k)
		return
	case errors.Is(err, errBehind):
		c.log.Debug("planned from an old state, trying again", "service", k.String(), "error", err)
	case errors.Is(err, context.DeadlineExceeded):
		// The server is away, and the time that this took was the pause.
		c.log.Warn("endpoints not written in time, trying again", "service", k.String(), "error", err)
		c.queue.AddAfter(k, time.Second)
		return
	default:
		c.log.Warn("endpoints not written, trying again", "service", k.String(), "tries", c.queue.NumRequeues(k)+1, "error", err)
	}
	c.queue.AddRateLimited(k)
}

// syncSafely keeps a Service that makes the plan panic from taking all others
// with it.
func (c *Controller) syncSafely(ctx context.Context, k key) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.settled.forget(k) // what the plan was to be about is forgotten
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return c.sync(ctx, k)
}

func (c *Controller) sync(ctx context.Context, k key) error {
	if done, err := c.syncFlips(ctx, k); done || err != nil {
		return err
	}
	in, exists := c.index.input(k, time.Now())
	if !exists {
		return c.syncDeleted(ctx, k)
	}
	in.Slices, in.Endpoints = c.published.Of(k)
	p := plan.Make(in, c.options.plan())
	c.metrics.plans.WithLabelValues(planOfAll).Inc()
	c.problems.report(k, in.Service, p)
	c.observe(in)
	return c.carryOut(ctx, k, &in, p)
}

// syncDeleted removes the Endpoints of a Service that is no more. The cache may
// be one that has not heard of a new Service yet, so the server is asked.
func (c *Controller) syncDeleted(ctx context.Context, k key) error {
	c.problems.forget(k)
	c.settled.forget(k)
	_, endpoints := c.published.Of(k)
	p := plan.MakeForDeleted(endpoints)
	if len(p.Writes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ledger.RequestTimeout)
	defer cancel()
	err := c.options.Client.Get(ctx, k, &corev1.Service{})
	switch {
	case err == nil:
		return nil // the informer's event about it puts k into the queue
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("ask whether Service %v exists: %w", k, err)
	}
	_, err = c.write(ctx, k, nil, p)
	return err
}

// sweep looks for own writes that are lost.
func (c *Controller) sweep(ctx context.Context) error {
	return c.published.Sweep(ctx, c.options.Client, c.queue.Add, c.pace.prune)
}
