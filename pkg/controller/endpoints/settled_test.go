package endpoints

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

// TestFlipsAmongOtherChanges: whatever happens, errors of the server included, in
// the end the plan of the whole Service has nothing to write; and flips are planned
// for by themselves.
func TestFlipsAmongOtherChanges(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, nil, func(b *bench) {
				rng := rand.New(rand.NewPCG(seed, 3))
				b.lag = time.Duration(rng.IntN(200)) * time.Millisecond
				b.start(20)
				time.Sleep(time.Second)
				var writes atomic.Uint64
				b.setFail(func() error {
					if writes.Add(1)%20 == 0 {
						return errServer
					}
					return nil
				})
				for round := range 300 {
					o := benchPod(rng.IntN(20), round+2, rng.IntN(2) == 0)
					deleted := false
					switch rng.IntN(20) {
					case 0:
						deleted = true
					case 1:
						o.Status.Phase = corev1.PodFailed
					case 2:
						o.Labels = map[string]string{"app": "another"}
					case 3:
						o.Spec.Hostname = "host"
					}
					b.tell(o, deleted)
					time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
				}
				b.setFail(nil)
				time.Sleep(time.Minute)
				for k := range b.controller.index.services {
					in, _ := b.controller.index.look(k, time.Now())
					in.Slices, in.Endpoints = b.controller.published.Of(k)
					if p := plan.Make(in, b.controller.options.plan()); len(p.Writes) > 0 {
						b.Errorf("%v still needs %d writes, first %s %v", k, len(p.Writes), p.Writes[0].Verb, p.Writes[0].Object)
					}
				}
				plans := b.controller.metrics.plans
				all, flips := testutil.ToFloat64(plans.WithLabelValues(planOfAll)), testutil.ToFloat64(plans.WithLabelValues(planOfFlips))
				if flips < all/2 {
					b.Errorf("%v plans were of flips, and %v of all", flips, all)
				}
			})
		})
	}
}
