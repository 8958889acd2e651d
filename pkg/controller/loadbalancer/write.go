package loadbalancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer/pool"
)

// letOthers is how long a Service of a class that is not ours may be without an
// address before it is told that it gets none of us: most get one of others.
const letOthers = 30 * time.Second

// errBlocked: another Service still publishes an address that this one gets.
var errBlocked = errors.New("another Service has to lose the address first")

// change is what is to be written to the status of a Service.
type change struct {
	// ingress: the addresses are others.
	ingress   bool
	addresses []netip.Addr
	// condition to write, or nil; drop removes it.
	condition *metav1.Condition
	drop      bool
	// wait is when there is something to write, nothing being so now; 0 for never.
	wait time.Duration
}

func (ch *change) empty() bool { return !ch.ingress && ch.condition == nil && !ch.drop }

// changeOf compares what a Service says with what is decided about it; has is
// false if nothing is.
func changeOf(svc *corev1.Service, v pool.Verdict, has bool, now time.Time) change {
	was := conditionOf(svc)
	switch {
	case !has && svc.Spec.Type == corev1.ServiceTypeLoadBalancer || has && v.UID != svc.UID:
		return change{} // undecided
	case !has:
		return change{ingress: was != nil && len(svc.Status.LoadBalancer.Ingress) > 0, drop: was != nil}
	case !v.Ours && v.Reason == "":
		return change{drop: was != nil}
	case !v.Ours && was == nil:
		if wait := svc.CreationTimestamp.Add(letOthers).Sub(now); wait > 0 {
			return change{wait: wait}
		}
	}
	out := change{addresses: v.Addresses, ingress: v.Ours && !publishes(svc, v.Addresses)}
	is := &metav1.Condition{
		Type: v1alpha1.ConditionAddressAssigned, Status: metav1.ConditionFalse,
		Reason: v.Reason, Message: v.Message, LastTransitionTime: metav1.NewTime(now),
	}
	if len(v.Addresses) > 0 {
		is.Status = metav1.ConditionTrue // which also says that they are from us
	}
	if was != nil && was.Status == is.Status {
		is.LastTransitionTime = was.LastTransitionTime
	}
	if was == nil || was.Status != is.Status || was.Reason != is.Reason || was.Message != is.Message {
		out.condition = is
	}
	return out
}

// publishes says whether the status of a Service has these addresses and nothing else.
func publishes(svc *corev1.Service, addresses []netip.Addr) bool {
	return slices.EqualFunc(svc.Status.LoadBalancer.Ingress, addresses, func(in corev1.LoadBalancerIngress, at netip.Addr) bool {
		return in.IP == at.String() && in.Hostname == "" && (in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP)
	})
}

func contains(addresses []netip.Addr, at netip.Addr) bool { return slices.Contains(addresses, at) }

func conditionOf(svc *corev1.Service) *metav1.Condition {
	for i := range svc.Status.Conditions {
		if svc.Status.Conditions[i].Type == v1alpha1.ConditionAddressAssigned {
			return &svc.Status.Conditions[i]
		}
	}
	return nil
}

// handle writes to a Service if its addresses are others. Is it only told
// something, that is left to handleLazily.
func (c *Controller) handle(ctx context.Context, k pool.Key) { c.try(ctx, k, false) }

func (c *Controller) handleLazily(ctx context.Context, k pool.Key) { c.try(ctx, k, true) }

func (c *Controller) try(ctx context.Context, k pool.Key, lazily bool) {
	queue := c.queue
	if lazily {
		queue = c.lazy
	}
	switch err := c.sync(ctx, k, lazily); {
	case err == nil:
		queue.Forget(k)
		return
	case ctx.Err() != nil:
		return // the term is over
	case errors.Is(err, errBlocked), apierrors.IsConflict(err), apierrors.IsNotFound(err):
		c.log.Debug("Service not written yet", "service", k.String(), "error", err)
	default:
		c.metrics.writes.WithLabelValues(resultError).Inc()
		c.log.Warn("status of a Service not written, will try again", "service", k.String(), "tries", queue.NumRequeues(k)+1, "error", err)
	}
	queue.AddRateLimited(k)
}

func (c *Controller) sync(ctx context.Context, k pool.Key, lazily bool) error {
	svc := &corev1.Service{}
	switch err := c.options.Shared.Get(ctx, k, svc); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("read Service %v: %w", k, err)
	}
	c.mu.Lock()
	v, has := c.allocator.Verdict(k)
	known := c.poolsKnown
	other, blocked := c.blocked(k, v.Addresses)
	c.mu.Unlock()
	if !known {
		return nil // comes again when it is decided
	}
	ch := changeOf(svc, v, has, time.Now())
	switch {
	case ch.wait > 0:
		c.lazy.AddAfter(k, ch.wait)
		return nil
	case ch.empty():
		return nil
	case !ch.ingress && !lazily:
		c.lazy.Add(k)
		return nil
	case ch.ingress && blocked:
		return fmt.Errorf("%w: %v", errBlocked, other)
	case !ch.ingress:
		if err := c.limit.Wait(ctx); err != nil {
			return err
		}
	}
	written, err := c.patch(ctx, svc, ch)
	if err != nil {
		return err
	}
	c.metrics.writes.WithLabelValues(resultOK).Inc()
	c.mu.Lock()
	if _, exists := c.allocator.Verdict(k); exists {
		c.publishes(k, written)
	}
	c.mu.Unlock()
	c.tell(svc, ch)
	return nil
}

// tell logs what was written, and makes an Event of what somebody has to know.
func (c *Controller) tell(svc *corev1.Service, ch change) {
	if ch.condition == nil {
		return
	}
	is, was := ch.condition, conditionOf(svc)
	c.log.Info("load balancer address of a Service", "service", client.ObjectKeyFromObject(svc).String(), "addresses", ch.addresses, "reason", is.Reason, "message", is.Message)
	kind := corev1.EventTypeWarning
	if is.Reason == v1alpha1.ReasonAssigned {
		if kind = corev1.EventTypeNormal; was == nil || was.Reason == v1alpha1.ReasonAssigned {
			return // all is as it should be
		}
	}
	if c.options.Recorder != nil {
		c.options.Recorder.Eventf(svc, kind, is.Reason, "%s", is.Message)
	}
}

// patch writes to the status of a Service. It is refused if the Service is not the
// one that was looked at, or has changed since.
func (c *Controller) patch(ctx context.Context, svc *corev1.Service, ch change) (*corev1.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	status := map[string]any{}
	if ch.ingress {
		var ingress []map[string]any // nil, which is null: none
		for _, at := range ch.addresses {
			ingress = append(ingress, map[string]any{"ip": at, "ipMode": corev1.LoadBalancerIPModeVIP})
		}
		status["loadBalancer"] = map[string]any{"ingress": ingress}
	}
	switch {
	case ch.drop:
		status["conditions"] = []map[string]any{{"$patch": "delete", "type": v1alpha1.ConditionAddressAssigned}}
	case ch.condition != nil:
		status["conditions"] = []*metav1.Condition{ch.condition}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": svc.UID, "resourceVersion": svc.ResourceVersion},
		"status":   status,
	})
	if err != nil {
		return nil, err
	}
	at := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name}}
	if err := c.options.Client.Status().Patch(ctx, at, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return nil, fmt.Errorf("patch the status: %w", err)
	}
	return at, nil
}
