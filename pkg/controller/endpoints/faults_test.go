package endpoints

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	endpointsliceutil "k8s.io/endpointslice/util"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

// The faults that the stock endpoint controllers have or had, each with a test
// that this one has it not. Whether kube-controller-manager 1.36 has it is said,
// and shown where that takes no server; TestFaultsOfTheStockControllers shows it
// for those that take one. (E11 is about mirroring: its test is in controller/mirror.)
//
//	E1   a selector that is removed leaves endpoints behind           has it
//	E2   so does a Service that becomes an ExternalName               has it
//	E3   a Node that comes after its pod                              has it
//	E4   a Node that learns its zone late                             has it
//	E5   a pod that fails while it is not ready, but published        has it
//	E6   each update of a pod that terminates counts as a change      has it
//	E7   a key is given up after 15 failures                          has it
//	E8   Endpoints and EndpointSlices drift apart                     had it
//	E9   two pods with one address                                    has it
//	E10  without the discovery API it runs without slices             had it
//	E11  a mirror does not say whether an endpoint serves             has it
//	E12  the trigger time, if one pod changes twice                   has it
//	E13  a big Service holds up small ones                            has it

// says describes what the server has for a Service: a line per address.
func (b *bench) says(svc string) []string {
	b.Helper()
	out := []string{}
	var eps discoveryv1.EndpointSliceList
	if err := b.List(b.Context(), &eps, client.MatchingLabels{discoveryv1.LabelServiceName: svc}); err != nil {
		b.Fatal(err)
	}
	for _, s := range eps.Items {
		for _, e := range s.Endpoints {
			line := "slice " + e.Addresses[0] + " " + e.TargetRef.Name
			if *e.Conditions.Ready {
				line += " ready"
			}
			if e.Zone != nil {
				line += " " + *e.Zone
			}
			out = append(out, line)
		}
	}
	var e corev1.Endpoints
	if err := b.Get(b.Context(), key{Namespace: "ns", Name: svc}, &e); client.IgnoreNotFound(err) != nil {
		b.Fatal(err)
	}
	for _, s := range e.Subsets {
		for _, a := range s.Addresses {
			out = append(out, "endpoints "+a.IP+" "+a.TargetRef.Name+" ready")
		}
		for _, a := range s.NotReadyAddresses {
			out = append(out, "endpoints "+a.IP+" "+a.TargetRef.Name)
		}
	}
	slices.Sort(out)
	return out
}

// soon checks what the server has a second later, which is many writes.
func (b *bench) soon(want ...string) {
	b.Helper()
	time.Sleep(time.Second)
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), b.says("svc")); diff != "" {
		b.Errorf("published (-want +got):\n%s", diff)
	}
}

// changed tells of a Service of the bench that has been changed.
func (b *bench) changed(svc *corev1.Service, change func(*corev1.Service)) *corev1.Service {
	next := svc.DeepCopy()
	change(next)
	b.tell(next, false)
	return next
}

func TestE1(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.start(2)
		b.soon("slice 10.0.0.1 pod-0 ready", "slice 10.0.0.2 pod-1 ready", "endpoints 10.0.0.1 pod-0 ready", "endpoints 10.0.0.2 pod-1 ready")
		b.changed(benchService(), func(s *corev1.Service) { s.Spec.Selector = nil })
		b.soon()
	})
}

func TestE2(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.start(1)
		b.soon("slice 10.0.0.1 pod-0 ready", "endpoints 10.0.0.1 pod-0 ready")
		external := b.changed(benchService(), func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		})
		b.soon()
		b.changed(external, func(s *corev1.Service) { s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeClusterIP, "" })
		b.soon("slice 10.0.0.1 pod-0 ready", "endpoints 10.0.0.1 pod-0 ready")
	})
}

func TestE3(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.tell(benchService(), false)
		b.tell(benchPod(0, 1, true), false)
		b.soon("endpoints 10.0.0.1 pod-0 ready")
		b.tell(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, false)
		b.soon("slice 10.0.0.1 pod-0 ready", "endpoints 10.0.0.1 pod-0 ready")
	})
}

func TestE4(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.start(1)
		b.soon("slice 10.0.0.1 pod-0 ready", "endpoints 10.0.0.1 pod-0 ready")
		b.tell(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{corev1.LabelTopologyZone: "a"}}}, false)
		b.soon("slice 10.0.0.1 pod-0 ready a", "endpoints 10.0.0.1 pod-0 ready")
	})
}

func TestE5(t *testing.T) {
	was, is := benchPod(0, 1, false), benchPod(0, 2, false)
	is.Status.Phase = corev1.PodFailed
	if endpointsliceutil.GetPodUpdateProjectionKey(was, is) != nil {
		t.Error("upstream notices, too")
	}
	inBubble(t, nil, func(b *bench) {
		b.tell(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, false)
		b.changed(benchService(), func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true })
		b.tell(was, false)
		b.soon("slice 10.0.0.1 pod-0 ready", "endpoints 10.0.0.1 pod-0 ready")
		b.tell(is, false)
		b.soon()
	})
}

func TestE6(t *testing.T) {
	dying := func(version int) *corev1.Pod {
		p := benchPod(0, version, true)
		p.DeletionTimestamp = new(metav1.NewTime(time.Unix(1_000_000_000, 0)))
		return p
	}
	if endpointsliceutil.GetPodUpdateProjectionKey(dying(2), dying(3)) == nil {
		t.Error("upstream compares times by value, too")
	}
	inBubble(t, nil, func(b *bench) {
		b.start(1)
		b.tell(dying(2), false)
		b.soon("slice 10.0.0.1 pod-0")
		syncs := b.syncs()
		for version := range 20 {
			b.tell(dying(3+version), false)
		}
		b.soon("slice 10.0.0.1 pod-0")
		if n := b.syncs() - syncs; n != 0 {
			t.Errorf("%d plans for 20 updates that change nothing", n)
		}
	})
}

// TestE7: the stock controllers give up after 15 tries; these are more.
func TestE7(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.setFail(func() error { return errServer })
		b.start(1)
		time.Sleep(time.Hour)
		if tries := b.controller.queue.NumRequeues(key{Namespace: "ns", Name: "svc"}); tries <= 15 {
			t.Fatalf("%d tries are no proof", tries)
		}
		b.setFail(nil)
		time.Sleep(maxBackoff)
		b.soon("slice 10.0.0.1 pod-0 ready", "endpoints 10.0.0.1 pod-0 ready")
	})
}

// TestE8: pods flap while the informers lag behind the controller's own writes.
func TestE8(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.lag = 300 * time.Millisecond
		b.start(3)
		for version := range 101 { // the last one is ready
			for i := range 3 {
				b.tell(benchPod(i, 2+version, version%2 == 0), false)
			}
			time.Sleep(7 * time.Millisecond)
		}
		var want []string
		for i := range 3 {
			at := fmt.Sprintf("10.0.0.%d pod-%d ready", i+1, i)
			want = append(want, "slice "+at, "endpoints "+at)
		}
		b.soon(want...)
	})
}

func TestE9(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.start(1)
		b.soon("slice 10.0.0.1 pod-0 ready", "endpoints 10.0.0.1 pod-0 ready")
		old := benchPod(0, 2, true)
		old.DeletionTimestamp = new(metav1.NewTime(time.Unix(1_000_000_000, 0)))
		b.tell(old, false)
		next := benchPod(1, 1, true)
		next.Status.PodIP, next.Status.PodIPs = old.Status.PodIP, old.Status.PodIPs
		b.tell(next, false)
		b.soon("slice 10.0.0.1 pod-1 ready", "endpoints 10.0.0.1 pod-1 ready")
		if said := strings.Join(b.said(), "\n"); !strings.Contains(said, "EndpointsIncomplete: pods[pod-0].status.podIPs[10.0.0.1]: the address is that of the later pod pod-1 now") {
			t.Errorf("events: %s", said)
		}
	})
}

// TestE10: if it cannot hear of slices, the controller ends with an error that
// says so, and does not run without them.
func TestE10(t *testing.T) {
	noDiscovery := errors.New("no matches for kind EndpointSlice")
	o := Options{
		Client: &bench{}, Shared: &informertest.FakeInformers{Error: noDiscovery}, Term: &informertest.FakeInformers{},
		Endpoints: true, EndpointSlices: true, MaxEndpointsPerSlice: 100, BatchPeriod: 0, Concurrency: 1,
		Registerer: prometheus.NewRegistry(), Recorder: nil, Log: slog.New(slog.DiscardHandler),
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Run(ctx); !errors.Is(err, noDiscovery) {
		t.Errorf("Run returned %v", err)
	}
}

// TestE12: a pod becomes ready, unready and ready again before anybody plans. The
// endpoint is as late as the first of these.
func TestE12(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(1_000_000_000+second, 0) }
	pod := func(version int, ready bool, second int64) *corev1.Pod {
		p := benchPod(0, version, ready)
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(at(second))
		return p
	}
	svc := benchService()
	svc.CreationTimestamp = metav1.NewTime(at(0))

	upstream := endpointsliceutil.NewTriggerTimeTracker()
	upstream.ComputeEndpointLastChangeTriggerTime("ns", svc, []*corev1.Pod{pod(1, false, 1)})
	if got := upstream.ComputeEndpointLastChangeTriggerTime("ns", svc, []*corev1.Pod{pod(4, true, 30)}); !got.Equal(at(30)) {
		t.Errorf("upstream says %v: it is known to say when the pod changed last", got)
	}

	x := newIndex()
	x.setNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, at(0))
	x.setService(svc)
	x.setPod(pod(1, false, 1))
	k := key{Namespace: "ns", Name: "svc"}
	var endpoints *corev1.Endpoints
	makePlan := func() plan.Plan {
		in, _ := x.input(k, at(60))
		in.Endpoints = endpoints
		p := plan.Make(in, plan.Options{Endpoints: true, MaxEndpointsPerSlice: 100})
		for _, w := range p.Writes {
			endpoints = w.Object.(*corev1.Endpoints)
		}
		return p
	}
	makePlan()
	x.setPod(pod(2, true, 10))
	x.setPod(pod(3, false, 20))
	x.setPod(pod(4, true, 30))
	in, _ := x.input(k, at(60)) // a plan whose writes fail
	x.unsynced(k, in.Since)
	if p := makePlan(); !p.Trigger.Equal(at(10)) || endpoints.Annotations[corev1.EndpointsLastChangeTriggerTime] != at(10).UTC().Format(time.RFC3339Nano) {
		t.Errorf("the trigger is %v, annotated %v", p.Trigger, endpoints.Annotations)
	}
	x.setPod(pod(5, false, 40))
	if p := makePlan(); !p.Trigger.Equal(at(40)) {
		t.Errorf("the next trigger is %v: what has been published is remembered", p.Trigger)
	}
}

// TestE13: a Service of 10,000 pods is being written, and a small one
// is published meanwhile.
func TestE13(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.tell(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, false)
		for i := range 10_000 {
			p := benchPod(i, 1, true)
			p.Status.PodIP = fmt.Sprintf("10.1.%d.%d", i/250, i%250)
			p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
			b.tell(p, false)
		}
		b.tell(benchService(), false)
		time.Sleep(2 * writeTime) // it is at it
		small := benchPod(10_000, 1, true)
		small.Labels, small.Status.PodIP, small.Status.PodIPs = map[string]string{"app": "small"}, "10.2.0.1", []corev1.PodIP{{IP: "10.2.0.1"}}
		b.tell(small, false)
		b.changed(benchService(), func(s *corev1.Service) {
			s.Name, s.UID, s.Spec.Selector = "small", types.UID("small"), small.Labels
		})
		began := time.Now()
		for len(b.says("small")) < 2 && time.Since(began) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		if took, written := time.Since(began), len(b.says("svc")); took > 4*writeTime || written >= 10_000 {
			t.Errorf("published after %v, when the big one had %d endpoints", took, written)
		}
		time.Sleep(time.Second) // for the big one
		if written := len(b.says("svc")); written != 11_000 {
			t.Errorf("the big one has %d lines", written)
		}
	})
}
