package mirror

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// handle plans and writes for one Service, and sees to it that it is tried again
// if that fails.
func (c *Controller) handle(ctx context.Context, k ledger.Key) {
	began := time.Now()
	err := c.syncSafely(ctx, k)
	c.metrics.syncs.Observe(time.Since(began).Seconds())
	switch {
	case err == nil:
		c.queue.Forget(k)
		return
	case ctx.Err() != nil:
		return // the term is over
	case errors.Is(err, errBehind):
		c.log.Debug("planned from an old state, trying again", "service", k.String(), "error", err)
	default:
		c.log.Warn("endpoints not mirrored, trying again", "service", k.String(), "tries", c.queue.NumRequeues(k)+1, "error", err)
	}
	c.queue.AddRateLimited(k)
}

// syncSafely keeps a Service that makes the plan panic from taking all others
// with it.
func (c *Controller) syncSafely(ctx context.Context, k ledger.Key) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return c.sync(ctx, k)
}

func (c *Controller) sync(ctx context.Context, k ledger.Key) error {
	in, absent, err := c.fetch(ctx, k)
	if err != nil {
		return err
	}
	m := plan.MakeMirror(in, c.options.MaxEndpointsPerSubset)
	c.report(k, in.Endpoints, m)
	if absent != nil && len(m.Writes) > 0 {
		if exists, err := c.exists(ctx, k, absent); exists || err != nil {
			return err // if it exists, the informer's event about it puts k into the queue
		}
	}
	return c.write(ctx, k, in.Endpoints, m.Writes)
}

// fetch returns what to plan from, and the object for want of which nothing is
// to be mirrored, or nil.
func (c *Controller) fetch(ctx context.Context, k ledger.Key) (in plan.MirrorInput, absent client.Object, err error) {
	in.Slices, _ = c.mirrored.Of(k)
	svc, e := &corev1.Service{}, &corev1.Endpoints{}
	switch err := c.options.Shared.Get(ctx, k, svc); {
	case apierrors.IsNotFound(err):
		return in, svc, nil
	case err != nil:
		return in, nil, fmt.Errorf("read Service %v: %w", k, err)
	case !plan.IsForMirroring(svc):
		return in, nil, nil
	}
	in.Service = svc
	switch err := c.options.Term.Get(ctx, k, e); {
	case apierrors.IsNotFound(err):
		return in, e, nil
	case err != nil:
		return in, nil, fmt.Errorf("read Endpoints %v: %w", k, err)
	}
	in.Endpoints = e
	return in, nil, nil
}

// exists asks the server for an object that a cache does not have. Addresses
// that get traffic must not go because a cache has not heard of an object yet.
func (c *Controller) exists(ctx context.Context, k ledger.Key, o client.Object) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, ledger.RequestTimeout)
	defer cancel()
	switch err := c.options.Client.Get(ctx, k, o); {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask whether %T %v exists: %w", o, k, err)
	}
	return true, nil
}
