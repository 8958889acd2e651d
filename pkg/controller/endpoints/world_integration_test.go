//go:build integration

package endpoints_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/watchcache"
	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/apiserver/apitest"
)

// server is the API server that all tests of the package share.
var server *apiserver.Server

func TestMain(m *testing.M) { os.Exit(apitest.Main(m, &server)) }

// cluster is a namespace of the shared server, with two nodes.
type cluster struct{ *apitest.Tenant }

func newCluster(t *testing.T) *cluster {
	t.Helper()
	w := &cluster{apitest.NewTenant(t, server, "")}
	for name, zone := range map[string]string{"node-1": "zone-a", "node-2": "zone-b"} {
		w.node(name, zone)
	}
	return w
}

func (w *cluster) node(name, zone string) {
	w.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	if err := w.Create(w.Context(), n); err == nil {
		w.Cleanup(func() { _ = w.Delete(context.Background(), n) })
	}
}

func (w *cluster) service(name string, change ...func(*corev1.Service)) *corev1.Service {
	w.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	for _, f := range change {
		f(svc)
	}
	w.Make(svc)
	return svc
}

// pod makes a pod that is ready.
func (w *cluster) pod(app string, n int, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", app, n), Namespace: w.Namespace, Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	for _, f := range change {
		f(p)
	}
	w.Make(p)
	w.status(p, true, fmt.Sprintf("10.1.%d.%d", n/250, n%250+1))
	return p
}

func (w *cluster) status(p *corev1.Pod, ready bool, ip string) {
	w.Helper()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	patch := fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}],"conditions":[{"type":"Ready","status":%q,"lastTransitionTime":%q}]}}`,
		ip, ip, status, time.Now().UTC().Format(time.RFC3339))
	w.MergeStatus(p, patch)
}

// published describes slices and Endpoints of a Service: a line per address.
func (w *cluster) published(svc string) []string {
	w.Helper()
	out := []string{}
	var list discoveryv1.EndpointSliceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: svc, discoveryv1.LabelManagedBy: plan.SliceManager}); err != nil {
		w.Fatal(err)
	}
	for _, s := range list.Items {
		if len(s.Endpoints) == 0 {
			out = append(out, "slice without endpoints")
		}
		for _, e := range s.Endpoints {
			line := "slice " + e.Addresses[0]
			for name, on := range map[string]*bool{" ready": e.Conditions.Ready, " serving": e.Conditions.Serving, " terminating": e.Conditions.Terminating} {
				if *on {
					line += name
				}
			}
			words := strings.Fields(line)
			slices.Sort(words[2:])
			if e.Zone != nil {
				words = append(words, *e.Zone)
			}
			out = append(out, strings.Join(words, " "))
		}
	}
	var e corev1.Endpoints
	err := w.Get(w.Context(), types.NamespacedName{Namespace: w.Namespace, Name: svc}, &e)
	switch {
	case client.IgnoreNotFound(err) != nil:
		w.Fatal(err)
	case err == nil && len(e.Subsets) == 0:
		out = append(out, "endpoints without addresses")
	}
	for _, s := range e.Subsets {
		for _, a := range s.Addresses {
			out = append(out, "endpoints "+a.IP+" ready")
		}
		for _, a := range s.NotReadyAddresses {
			out = append(out, "endpoints "+a.IP+" not ready")
		}
	}
	slices.Sort(out)
	return out
}

// waitFor waits until a Service publishes these lines.
func (w *cluster) waitFor(svc string, want ...string) {
	w.Helper()
	want = slices.Sorted(slices.Values(want))
	deadline := time.Now().Add(20 * time.Second)
	for {
		got := w.published(svc)
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("Service %s publishes\n\t%s\nwant\n\t%s", svc, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// both returns the lines of a pod that is ready, in slice and Endpoints.
func both(ip, zone string) []string {
	return []string{"slice " + ip + " ready serving " + zone, "endpoints " + ip + " ready"}
}

// term is a running controller.
type term struct {
	registry   *prometheus.Registry
	controller *endpoints.Controller
	stop       func()
}

func sharedOptions() cache.Options {
	return cache.Options{DefaultTransform: watchcache.Strip}
}

// start starts a controller with caches of its own, unless shared is given.
func (w *cluster) start(shared cache.Cache, change ...func(*endpoints.Options)) *term {
	w.Helper()
	return w.startAfter(nil, shared, change...)
}

// startAfter is start, with something to do before the controller runs.
func (w *cluster) startAfter(before func(context.Context, *endpoints.Controller), shared cache.Cache, change ...func(*endpoints.Options)) *term {
	w.Helper()
	stopShared := func() {}
	if shared == nil {
		shared, stopShared = w.StartCache(sharedOptions())
	}
	termCache, stopTerm := w.StartCache(cache.Options{ByObject: endpoints.TermObjects()})
	tm := &term{registry: prometheus.NewRegistry()}
	o := endpoints.Options{
		Client: w.Client, Shared: shared, Term: termCache,
		Endpoints: true, EndpointSlices: true, MaxEndpointsPerSlice: 100, BatchPeriod: 0, Concurrency: 4,
		Registerer: tm.registry, Recorder: nil, Log: w.Logger(),
	}
	for _, f := range change {
		f(&o)
	}
	c, err := endpoints.New(o)
	if err != nil {
		w.Fatal(err)
	}
	tm.controller = c
	stop := w.Start(func(ctx context.Context) error {
		if before != nil {
			before(ctx, c)
		}
		return c.Run(ctx)
	})
	tm.stop = func() {
		stop()
		stopTerm()
		stopShared()
	}
	return tm
}

// count adds up a metric, over those of its series that have the label.
func (tm *term) count(t *testing.T, name, label, value string) int {
	t.Helper()
	families, err := tm.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
				return l.GetName() == label && l.GetValue() == value
			})) {
				sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return int(sum)
}

func (tm *term) writes(t *testing.T) int {
	t.Helper()
	return tm.count(t, "signpost_controller_endpoints_writes_total", "", "")
}

// quiet waits until the controller has synced at least atLeast times and then
// does nothing for a while.
func (tm *term) quiet(t *testing.T, atLeast int) {
	t.Helper()
	const still = time.Second
	deadline := time.Now().Add(30 * time.Second)
	last, since := -1, time.Now()
	for time.Now().Before(deadline) {
		n := tm.count(t, "signpost_controller_endpoints_sync_duration_seconds", "", "")
		if n != last {
			last, since = n, time.Now()
		}
		if n >= atLeast && time.Since(since) > still {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the controller is still busy, or never was: %d syncs", last)
}
