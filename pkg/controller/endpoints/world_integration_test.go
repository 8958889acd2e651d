//go:build integration

package endpoints_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/watchcache"
	"github.com/signpost-dev/signpost/test/apiserver"
)

// server is the API server that all tests of the package share.
var server *apiserver.Server

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	klog.SetLogger(logr.Discard()) // an outage makes client-go talk
	log.SetLogger(logr.Discard())
	var err error
	if server, err = apiserver.Start(context.Background(), apiserver.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return m.Run()
}

// cluster is a namespace of the shared server, and the means to change it.
type cluster struct {
	*testing.T
	client.Client
	config *rest.Config
	ns     string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{} // that Endpoints are deprecated is known
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &cluster{t, c, config, "test-" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))}
	w.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns}})
	for name, zone := range map[string]string{"node-1": "zone-a", "node-2": "zone-b"} {
		w.node(name, zone)
	}
	return w
}

func (w *cluster) make(o client.Object) {
	w.Helper()
	if err := w.Create(w.Context(), o); err != nil {
		w.Fatalf("make %T %s: %v", o, o.GetName(), err)
	}
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
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.ns},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	for _, f := range change {
		f(svc)
	}
	w.make(svc)
	return svc
}

// pod makes a pod that is ready.
func (w *cluster) pod(app string, n int, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", app, n), Namespace: w.ns, Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "none"}}},
	}
	for _, f := range change {
		f(p)
	}
	w.make(p)
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
	if err := w.Status().Patch(w.Context(), p, client.RawPatch(types.StrategicMergePatchType, []byte(patch))); err != nil {
		w.Fatalf("patch the status of %s: %v", p.Name, err)
	}
}

func (w *cluster) patch(o client.Object, patch string) {
	w.Helper()
	if err := w.Patch(w.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		w.Fatalf("patch %s: %v", o.GetName(), err)
	}
}

func (w *cluster) delete(o client.Object, opts ...client.DeleteOption) {
	w.Helper()
	if err := w.Delete(w.Context(), o, opts...); err != nil {
		w.Fatalf("delete %s: %v", o.GetName(), err)
	}
}

// published describes slices and Endpoints of a Service: a line per address.
func (w *cluster) published(svc string) []string {
	w.Helper()
	out := []string{}
	var list discoveryv1.EndpointSliceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.ns), client.MatchingLabels{discoveryv1.LabelServiceName: svc, discoveryv1.LabelManagedBy: plan.SliceManager}); err != nil {
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
	err := w.Get(w.Context(), types.NamespacedName{Namespace: w.ns, Name: svc}, &e)
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

// startCache starts a cache, and returns it with what stops it and waits.
func (w *cluster) startCache(o cache.Options) (cache.Cache, func()) {
	w.Helper()
	c, err := cache.New(w.config, o)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return c.Start(ctx) })
	return c, func() {
		cancel()
		if err := g.Wait(); err != nil {
			w.Error(err)
		}
	}
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
		shared, stopShared = w.startCache(sharedOptions())
	}
	termCache, stopTerm := w.startCache(cache.Options{ByObject: endpoints.TermObjects()})
	tm := &term{registry: prometheus.NewRegistry()}
	o := endpoints.Options{
		Client: w.Client, Shared: shared, Term: termCache,
		Endpoints: true, EndpointSlices: true, MaxEndpointsPerSlice: 100, BatchPeriod: 0, Concurrency: 4,
		Registerer: tm.registry, Recorder: nil, Log: slog.New(slog.NewTextHandler(testWriter{w.T}, nil)),
	}
	for _, f := range change {
		f(&o)
	}
	c, err := endpoints.New(o)
	if err != nil {
		w.Fatal(err)
	}
	tm.controller = c
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	if before != nil {
		before(ctx, c)
	}
	g.Go(func() error { return c.Run(ctx) })
	stopped := false
	tm.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := g.Wait(); err != nil {
			w.Error(err)
		}
		stopTerm()
		stopShared()
	}
	w.Cleanup(tm.stop)
	return tm
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
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
