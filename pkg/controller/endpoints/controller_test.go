package endpoints

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// TestInformersThatLag: pods change much faster than the informers show what the
// controller writes. It must not take its own writes for missing, nor for
// somebody else's.
func TestInformersThatLag(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.lag = 500 * time.Millisecond
		b.start(10)
		rng := rand.New(rand.NewPCG(1, 2))
		ready := map[string]bool{}
		for round := range 200 {
			i, on := rng.IntN(10), rng.IntN(2) == 0
			b.tell(benchPod(i, round+2, on), false)
			ready[fmt.Sprint("10.0.0.", i+1)] = on
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
		time.Sleep(4 * writeTime)
		if got := b.onServer(); !maps.Equal(got, ready) {
			b.Errorf("right after the last change the server has\n%v, want\n%v", got, ready)
		}
		synced := b.syncs()
		writes := b.total()
		time.Sleep(time.Minute)
		if b.total() != writes || b.syncs() != synced {
			b.Errorf("the events of its own writes made it write again")
		}
		for _, kind := range []string{"create *v1.EndpointSlice", "create *v1.Endpoints"} {
			if n := b.count(kind); n != 1 {
				b.Errorf("%s: %d times", kind, n)
			}
		}
		if n := testutil.ToFloat64(b.controller.metrics.writes.WithLabelValues("EndpointSlice", "update", resultBehind)); n != 0 {
			b.Errorf("%v writes were refused as planned from an old state", n)
		}
	})
}

// TestNoKeyIsGivenUp: an hour of errors, and then it works.
func TestNoKeyIsGivenUp(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		var tries atomic.Int64
		b.setFail(func() error { tries.Add(1); return errServer })
		b.start(1)
		time.Sleep(time.Hour)
		if n := tries.Load(); n < 3600/30 {
			b.Errorf("only %d tries in an hour", n)
		}
		b.setFail(nil)
		time.Sleep(maxBackoff + time.Second)
		if got := b.onServer(); !got["10.0.0.1"] {
			b.Errorf("the server has %v", got)
		}
		if said := b.said(); len(said) == 0 || !strings.Contains(said[0], "FailedToUpdate") || !strings.Contains(said[0], errServer.Error()) {
			b.Errorf("events are %v", said)
		}
	})
}

// TestOneRefusedServiceDoesNotStopTheOthers covers an error of the server and a
// plan that panics.
func TestOneRefusedServiceDoesNotStopTheOthers(t *testing.T) {
	inBubble(t, func(o *Options) { o.Concurrency = 1 }, func(b *bench) {
		broken := key{Namespace: "ns", Name: "broken"}
		b.controller.index.services[broken] = &serviceEntry{key: broken} // has no object: the plan panics
		b.controller.queue.Add(broken)
		b.start(1)
		time.Sleep(time.Second)
		if got := b.onServer(); !got["10.0.0.1"] {
			b.Errorf("the server has %v", got)
		}
		if b.controller.queue.NumRequeues(broken) < 2 {
			b.Error("the broken Service is not tried again")
		}
	})
}

// TestBatchPeriod: additions share a write, a removal is written at once.
func TestBatchPeriod(t *testing.T) {
	inBubble(t, func(o *Options) { o.BatchPeriod, o.Endpoints = time.Second, false }, func(b *bench) {
		b.start(0)
		time.Sleep(2 * time.Second)
		for i := range 10 {
			b.tell(benchPod(i, 1, true), false)
			time.Sleep(50 * time.Millisecond)
		}
		if n := b.count("update *v1.EndpointSlice"); n != 0 {
			b.Errorf("%d updates before the period is over", n)
		}
		time.Sleep(time.Second)
		if n := b.count("update *v1.EndpointSlice"); n != 1 || len(b.onServer()) != 10 {
			b.Errorf("%d updates, the server has %v", n, b.onServer())
		}
		b.tell(benchPod(3, 2, false), false)
		time.Sleep(2 * writeTime)
		if b.onServer()["10.0.0.4"] {
			b.Error("a pod that lost its readiness still is ready")
		}
	})
}

// TestWhatNoInformerEverShows: a slice that was made and deleted again while the
// watch was broken.
func TestWhatNoInformerEverShows(t *testing.T) {
	inBubble(t, func(o *Options) { o.Endpoints = false }, func(b *bench) {
		b.mute = true
		b.start(1)
		time.Sleep(time.Second)
		var list discoveryv1.EndpointSliceList
		if err := b.List(b.Context(), &list); err != nil || len(list.Items) != 1 {
			b.Fatalf("the server has %v, %v", list.Items, err)
		}
		time.Sleep(time.Minute)
		if n := b.count("create *v1.EndpointSlice"); n != 1 {
			b.Fatalf("%d slices were made", n)
		}
		if err := b.WithWatch.Delete(b.Context(), &list.Items[0]); err != nil {
			b.Fatal(err)
		}
		time.Sleep(ledger.OverdueAfter + 2*ledger.SweepPeriod)
		if got := b.onServer(); !got["10.0.0.1"] {
			b.Errorf("the server has %v", got)
		}
	})
}

func TestProblemsAreToldOnce(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		svc := benchService()
		svc.Spec.Ports[0].TargetPort = intstr.FromString("web")
		b.start(0)
		b.tell(svc, false)
		for round := range 3 {
			for i := range 5 {
				b.tell(benchPod(i, round+1, round%2 == 0), false)
			}
			time.Sleep(time.Second)
		}
		var told []string
		for _, e := range b.said() {
			if strings.HasPrefix(e, "EndpointsIncomplete") {
				told = append(told, e)
			}
		}
		if n := len(told); n == 0 || n > 5 {
			b.Fatalf("told %d times: %v", n, told)
		}
		if last := told[len(told)-1]; !strings.Contains(last, "pods[pod-0].spec.containers.ports[web]") || !strings.Contains(last, "and 2 more") {
			b.Errorf("told: %s", last)
		}
	})
}

// TestServiceUnknownToTheCache: Endpoints are deleted only if the server says,
// too, that there is no such Service.
func TestServiceUnknownToTheCache(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		b.start(1)
		time.Sleep(time.Second)
		svc := benchService()
		if err := b.Create(b.Context(), svc.DeepCopy()); err != nil {
			b.Fatal(err)
		}
		b.tell(svc, true)
		time.Sleep(time.Second)
		if n := b.count("delete *v1.Endpoints"); n != 0 {
			b.Fatalf("deleted the Endpoints of a Service that exists")
		}
		if err := b.Delete(b.Context(), svc.DeepCopy()); err != nil {
			b.Fatal(err)
		}
		b.controller.queue.Add(key{Namespace: "ns", Name: "svc"})
		time.Sleep(time.Second)
		err := b.Get(b.Context(), key{Namespace: "ns", Name: "svc"}, &corev1.Endpoints{})
		if n := b.count("delete *v1.Endpoints"); n != 1 || !apierrors.IsNotFound(err) {
			b.Errorf("%d deletions; the Endpoints: %v", n, err)
		}
	})
}

func TestOptions(t *testing.T) {
	good := func() Options {
		return Options{Client: fake.NewFakeClient(), Shared: &informertest.FakeInformers{}, Term: &informertest.FakeInformers{}, EndpointSlices: true, Endpoints: false,
			MaxEndpointsPerSlice: 100, BatchPeriod: 0, Concurrency: 1, Registerer: prometheus.NewRegistry(), Recorder: nil, Log: slog.New(slog.DiscardHandler)}
	}
	for _, tt := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"good", func(*Options) {}, ""},
		{"nothing on", func(o *Options) { o.EndpointSlices = false }, "neither"},
		{"slices too small", func(o *Options) { o.MaxEndpointsPerSlice = 0 }, "MaxEndpointsPerSlice"},
		{"slices too large", func(o *Options) { o.MaxEndpointsPerSlice = 1001 }, "MaxEndpointsPerSlice"},
		{"no workers", func(o *Options) { o.Concurrency = 0 }, "Concurrency"},
		{"no client", func(o *Options) { o.Client = nil }, "Client"},
		{"no log", func(o *Options) { o.Log = nil }, "Log"},
		{"negative period", func(o *Options) { o.BatchPeriod = -1 }, "BatchPeriod"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := good()
			tt.change(&o)
			_, err := New(o)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				_, err = New(o) // the next term, with the same registerer
			}
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error is %v, want %q", err, tt.want)
			}
		})
	}
}

// TestStrip: what the transforms leave gives the same plan.
func TestStrip(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	p := benchPod(1, 1, true)
	p.Annotations = map[string]string{"a": strings.Repeat("x", 1000)}
	p.Spec.HostNetwork = true
	p.Spec.Containers = []corev1.Container{{Name: "none"}, {Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 1}}}}
	p.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always, Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 2}}}}
	for o, by := range TermObjects() {
		if _, ok := o.(*corev1.Pod); !ok {
			continue
		}
		out, err := by.Transform(p.DeepCopy())
		got, ok := out.(*corev1.Pod)
		if err != nil || !ok {
			t.Fatalf("%T, %v", out, err)
		}
		if podChanged(p, got) || len(got.Spec.Containers) != 1 || len(got.Spec.InitContainers) != 1 || got.Spec.Containers[0].Image != "" || got.Annotations != nil || !got.Spec.HostNetwork {
			t.Errorf("stripped to %+v", got)
		}
	}
}
