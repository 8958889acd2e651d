package loadbalancer

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer/pool"
)

// statesEvery is the least time between two looks at what to say of pools: they
// count, and counts change with each Service.
const statesEvery = time.Second

// tellPools writes the status of pools, until ctx is done.
func (c *Controller) tellPools(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.untold:
		}
		c.mu.Lock()
		pools, states, known := c.pools, c.allocator.Pools(), c.poolsKnown
		c.mu.Unlock()
		if known {
			c.metrics.setPools(states)
			for _, p := range pools {
				if err := c.tellPool(ctx, p, states[p.Name]); err != nil && ctx.Err() == nil {
					c.log.Warn("status of a LoadBalancerPool not written, will try again", "pool", p.Name, "error", err)
					signal(c.untold)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(statesEvery):
		}
	}
}

// tellPool writes the status of a pool if it is another one. Has the pool changed,
// there will be a new look at it.
func (c *Controller) tellPool(ctx context.Context, p *v1alpha1.LoadBalancerPool, s pool.State) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	want := statusOf(p, s, time.Now())
	if equality.Semantic.DeepEqual(want, p.Status) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.UID, "resourceVersion": p.ResourceVersion},
		"status":   map[string]any{"conditions": want.Conditions, "ipv4": want.IPv4, "ipv6": want.IPv6},
	})
	if err != nil {
		return err
	}
	at := &v1alpha1.LoadBalancerPool{ObjectMeta: metav1.ObjectMeta{Name: p.Name}}
	err = c.options.Pools.Status().Patch(ctx, at, client.RawPatch(types.MergePatchType, patch))
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("patch the status: %w", err)
	}
	return nil
}

// statusOf returns the status that a pool is to have. Conditions of others stay.
func statusOf(p *v1alpha1.LoadBalancerPool, s pool.State, now time.Time) v1alpha1.LoadBalancerPoolStatus {
	is := metav1.Condition{
		Type: v1alpha1.ConditionPoolReady, Status: metav1.ConditionFalse, ObservedGeneration: p.Generation,
		Reason: s.Reason, Message: s.Message, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	if s.Ready {
		is.Status = metav1.ConditionTrue
	}
	out := v1alpha1.LoadBalancerPoolStatus{Conditions: slices.Clone(p.Status.Conditions), IPv4: s.IPv4, IPv6: s.IPv6}
	i := slices.IndexFunc(out.Conditions, func(has metav1.Condition) bool { return has.Type == is.Type })
	if i < 0 {
		out.Conditions = append(out.Conditions, is)
		return out
	}
	if out.Conditions[i].Status == is.Status {
		is.LastTransitionTime = out.Conditions[i].LastTransitionTime
	}
	out.Conditions[i] = is
	return out
}
