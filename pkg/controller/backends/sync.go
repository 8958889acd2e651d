package backends

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/plan"
	endpointsplan "github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// errBehind marks an error which only says that somebody else was quicker.
var errBehind = errors.New("the object has changed meanwhile")

// handle plans and writes for one Service, and sees to it that it is tried again
// if that fails.
func (c *Controller) handle(ctx context.Context, k ledger.Key) {
	switch err := c.syncSafely(ctx, k); {
	case err == nil:
		c.queue.Forget(k)
		return
	case ctx.Err() != nil:
		return // the term is over
	case errors.Is(err, errBehind):
		c.log.Debug("planned from an old state, trying again", "service", k.String(), "error", err)
	default:
		c.log.Warn("external backends not published, trying again", "service", k.String(), "tries", c.queue.NumRequeues(k)+1, "error", err)
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
	svc := &corev1.Service{}
	switch err := c.options.Shared.Get(ctx, k, svc); {
	case apierrors.IsNotFound(err):
		c.forget(k)
		return nil // the garbage collector removes its slices
	case err != nil:
		return fmt.Errorf("read Service %v: %w", k, err)
	}
	in := plan.Input{}
	in.Ours, _ = c.ours.Of(k)
	if check.Publishes(svc) && !c.options.Retire {
		all, err := c.options.Slices(ctx, k)
		if err != nil {
			return err
		}
		c.fill(&in, k, svc, all)
	} else {
		c.forget(k)
	}
	c.telling.Add(k)
	return c.write(ctx, k, plan.Make(in))
}

// forget is for a Service that asks for nothing any more. Its condition is none of
// what is forgotten.
func (c *Controller) forget(k ledger.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.services, k)
}

// fill completes the input for a Service that has this, and has it asked about from
// now on.
func (c *Controller) fill(in *plan.Input, k ledger.Key, svc *corev1.Service, all []*discoveryv1.EndpointSlice) {
	request, _ := check.Read(svc)
	sources := slices.DeleteFunc(slices.Clone(all), func(s *discoveryv1.EndpointSlice) bool {
		return plan.IsOurs(s) || s.AddressType == discoveryv1.AddressTypeFQDN // which packets cannot be sent to
	})
	_, nodes := c.options.Nodes.Able()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[k]
	if s == nil || s.uid != svc.UID {
		s = &state{heard: time.Now()}
		c.services[k] = s
	}
	named, problems := c.named(s, svc, request.Names, in.Ours)
	sources = append(sources, named...)
	s.set(svc.UID, request, sources, in.Ours)
	s.problems = append(s.problems, problems...)
	s.decide(nodes, time.Now())
	if len(s.backends) > 0 && !s.asks {
		s.asks = true
		c.asking.Add(k)
	}
	failing := s.failing()
	in.Service, in.Sources, in.Check = svc, sources, request.Check
	in.Fails = func(at netip.AddrPort) bool { return failing[at] }
}

// write makes the writes of a plan in their order. One that fails does not stop
// the others, but what takes slices away waits for what adds some.
func (c *Controller) write(ctx context.Context, k ledger.Key, writes []endpointsplan.Write) error {
	if len(writes) == 0 {
		return nil
	}
	var errs []error
	quiet := true // only errBehind so far
	batch := c.ours.Begin(k)
	for _, w := range writes {
		if w.Phase == endpointsplan.Leftovers && len(errs) > 0 {
			break
		}
		if err := c.one(ctx, batch, w); err != nil {
			quiet = quiet && ledger.IsBehind(err)
			errs = append(errs, fmt.Errorf("%s EndpointSlice %s: %w", w.Verb, w.Object.GetName(), err))
		}
	}
	if batch.End() {
		c.queue.Add(k)
	}
	if err := errors.Join(errs...); err != nil && quiet {
		return fmt.Errorf("%w: %w", errBehind, err)
	} else if err != nil {
		return err
	}
	return nil
}

// one makes one write and counts it.
func (c *Controller) one(ctx context.Context, batch *ledger.Batch, w endpointsplan.Write) error {
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
	if w.Verb == endpointsplan.Create && apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // in a namespace that is going away nothing new can be made, and need not
	}
	return err
}
