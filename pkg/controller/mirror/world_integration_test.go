//go:build integration

package mirror_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/mirror"
	"github.com/signpost-dev/signpost/pkg/watchcache"
	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/apiserver/apitest"
)

// server is the API server that all tests of the package share.
var server *apiserver.Server

func TestMain(m *testing.M) { os.Exit(apitest.Main(m, &server)) }

// cluster is a namespace of the shared server.
type cluster struct {
	*apitest.Tenant
	stock *apiserver.Program // after startStock
}

func newCluster(t *testing.T, suffix string) *cluster {
	t.Helper()
	return &cluster{Tenant: apitest.NewTenant(t, server, suffix)}
}

func (w *cluster) service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

func (w *cluster) endpoints(name string, ips ...string) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace}}
	if len(ips) > 0 {
		e.Subsets = []corev1.EndpointSubset{{Ports: []corev1.EndpointPort{{Port: 80}}}}
	}
	for _, ip := range ips {
		e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{IP: ip})
	}
	return e
}

// slices returns the slices of the namespace that mirror.
func (w *cluster) slices() []discoveryv1.EndpointSlice {
	w.Helper()
	var list discoveryv1.EndpointSliceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace), client.MatchingLabels{discoveryv1.LabelManagedBy: "endpointslicemirroring-controller.k8s.io"}); err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// slicesOf returns those of a Service.
func (w *cluster) slicesOf(name string) []discoveryv1.EndpointSlice {
	w.Helper()
	return slices.DeleteFunc(w.slices(), func(s discoveryv1.EndpointSlice) bool { return s.Labels[discoveryv1.LabelServiceName] != name })
}

// versions returns the version of each of them.
func (w *cluster) versions() map[string]string {
	w.Helper()
	out := map[string]string{}
	for _, s := range w.slices() {
		out[s.Name] = s.ResourceVersion
	}
	return out
}

// waitStill waits until nothing has been written for a while.
func (w *cluster) waitStill(still time.Duration) {
	w.Helper()
	last, since := fmt.Sprint(w.versions()), time.Now()
	for deadline := time.Now().Add(time.Minute); time.Since(since) < still; time.Sleep(100 * time.Millisecond) {
		if now := fmt.Sprint(w.versions()); now != last {
			last, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			w.Fatal("writes go on")
		}
	}
}

// waitFor waits until a Service has these addresses in slices that mirror.
func (w *cluster) waitFor(name string, want ...string) {
	w.Helper()
	slices.Sort(want)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var got []string
		for _, s := range w.slicesOf(name) {
			for _, e := range s.Endpoints {
				got = append(got, e.Addresses[0])
			}
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s publishes %v, want %v", name, got, want)
		}
	}
}

// recorder collects Events as the API would have them.
type recorder struct{ w *cluster }

func (r recorder) Eventf(o runtime.Object, eventType, reason, message string, args ...any) {
	e := o.(*corev1.Endpoints)
	_ = r.w.Create(context.Background(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "e-", Namespace: e.Namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Endpoints", Namespace: e.Namespace, Name: e.Name, UID: e.UID},
		Type:           eventType, Reason: reason, Message: fmt.Sprintf(message, args...),
	})
}

// events returns what was said of Endpoints of the namespace, each once.
func (w *cluster) events() []string {
	w.Helper()
	var list corev1.EventList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	out := []string{}
	for _, e := range list.Items {
		if e.InvolvedObject.Kind == "Endpoints" {
			out = append(out, fmt.Sprintf("%s %s: %s", e.InvolvedObject.Name, e.Reason, e.Message))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// start starts a controller with caches of its own, unless shared is given, and
// returns what stops it.
func (w *cluster) start(shared cache.Cache) (stop func()) {
	w.Helper()
	stopShared := func() {}
	if shared == nil {
		shared, stopShared = w.StartCache(cache.Options{DefaultTransform: watchcache.Strip})
	}
	termCache, stopTerm := w.StartCache(cache.Options{ByObject: endpoints.TermObjects()})
	c, err := mirror.New(mirror.Options{
		Client: w.Client, Shared: shared, Term: termCache, MaxEndpointsPerSubset: 1000, Concurrency: 4,
		Registerer: prometheus.NewRegistry(), Recorder: recorder{w}, Log: w.Logger(),
	})
	if err != nil {
		w.Fatal(err)
	}
	stopController := w.Start(c.Run)
	return func() {
		stopController()
		stopTerm()
		stopShared()
	}
}
