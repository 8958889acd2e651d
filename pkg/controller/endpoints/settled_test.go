package endpoints

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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

// TestOtherThanFlips: a plan of flips is made only if there was nothing else, and
// what else there was counts until the whole has been planned.
func TestOtherThanFlips(t *testing.T) {
	now := time.Unix(1000, 0)
	svc := func(change func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "a"}}}
		change(s)
		return s
	}
	pod := func(name string, ready corev1.ConditionStatus, change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "a"}},
			Spec:       corev1.PodSpec{NodeName: "n"},
			Status: corev1.PodStatus{
				PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}, {Type: corev1.ContainersReady, Status: ready}},
			},
		}
		change(p)
		return p
	}
	node := func(zone string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	}
	asIs, k := func(*corev1.Pod) {}, key{Namespace: "ns", Name: "svc"}
	change := func(change func(*corev1.Pod)) func(*index) {
		return func(x *index) { x.setPod(pod("a", "True", change)) }
	}
	for _, tt := range []struct {
		name   string
		change func(*index)
		want   []string // the pods that have flipped; nil if it takes the whole plan
	}{
		{"nothing", func(*index) {}, []string{}},
		{"a flip", func(x *index) { x.setPod(pod("a", "False", asIs)) }, []string{"a"}},
		{"two of one pod", func(x *index) { x.setPod(pod("a", "False", asIs)); x.setPod(pod("a", "True", asIs)) }, []string{"a"}},
		{"labels that select it too", change(func(p *corev1.Pod) { p.Labels["x"] = "y" }), nil},
		{"labels that do not", change(func(p *corev1.Pod) { p.Labels = nil }), nil},
		{"its deletion begins", change(func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }), nil},
		{"its address", change(func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "10.0.0.2", []corev1.PodIP{{IP: "10.0.0.2"}} }), nil},
		{"its name in DNS", change(func(p *corev1.Pod) { p.Spec.Hostname = "h" }), nil},
		{"its end", change(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), nil},
		{"another pod of its name", change(func(p *corev1.Pod) { p.UID = "other" }), nil},
		{"a mark of the node controller", change(func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }), nil},
		{"a pod less", func(x *index) { x.deletePod(key{Namespace: "ns", Name: "a"}) }, nil},
		{"a pod more", func(x *index) { x.setPod(pod("c", "True", asIs)) }, nil},
		{"the Service", func(x *index) { x.setService(svc(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true })) }, nil},
		{"its selector", func(x *index) {
			x.setService(svc(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "b"} }))
		}, nil},
		{"a node's zone", func(x *index) { x.setNode(node("other"), now) }, nil},
		{"a node less, for which nothing is planned", func(x *index) { x.deleteNode("n") }, []string{}},
		{"a dead node", func(x *index) { x.setFailed(map[string]string{"n": "its Lease"}) }, nil},
		{"a plan that failed", func(x *index) { x.unsynced(k, nil) }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newIndex()
			x.setNode(node("z"), now)
			x.setService(svc(func(*corev1.Service) {}))
			x.setPod(pod("a", "True", asIs))
			x.setPod(pod("b", "True", asIs))
			if _, only := x.flips(k, now); only {
				t.Error("a Service that was never planned")
			}
			if in, _ := x.input(k, now); len(in.Pods) != 2 {
				t.Fatalf("%d pods", len(in.Pods))
			}
			tt.change(x)
			x.setPod(pod("b", "False", asIs))
			in, only := x.flips(k, now)
			if only != (tt.want != nil) {
				t.Fatalf("only flips: %v", only)
			}
			if only {
				got := map[string]bool{}
				for _, p := range in.Pods {
					got[p.Name] = true
				}
				want := map[string]bool{"b": true}
				for _, name := range tt.want {
					want[name] = true
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				return
			}
			x.setPod(pod("b", "True", asIs))
			if _, only := x.flips(k, now); only {
				t.Error("what else there was is forgotten before the whole was planned")
			}
		})
	}
}
