//go:build integration

package readiness_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/readiness"
	"github.com/signpost-dev/signpost/pkg/watchcache"
	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/apiserver/apitest"
)

// server is the API server that all tests of the package share.
var server *apiserver.Server

func TestMain(m *testing.M) { os.Exit(apitest.Main(m, &server)) }

// world is a namespace of the server, and a term of the controllers.
type world struct {
	*apitest.Tenant
	// gate is part of the next term, if it is not nil.
	gate *readiness.Gate

	mu   sync.Mutex
	told []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{Tenant: apitest.NewTenant(t, server, "")}
}

// node makes a Node that is ready, until the test ends.
func (w *world) node(name string) {
	w.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	w.Make(n)
	w.Cleanup(func() { _ = w.Delete(context.Background(), n) })
	w.MergeStatus(n, `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`)
}

func (w *world) service(name string, selector map[string]string) *corev1.Service {
	w.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	w.Make(svc)
	return svc
}

// pod makes a pod that has the status, a JSON object, and an address.
func (w *world) pod(name, ip, node string, labels map[string]string, status string, gates ...corev1.PodConditionType) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "app", Image: "none"}}},
	}
	for _, g := range gates {
		p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: g})
	}
	w.Make(p)
	w.MergeStatus(p, fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}]}}`, ip, ip))
	w.MergeStatus(p, status)
	return p
}

// conditions writes Ready and ContainersReady as a kubelet does.
func conditions(ready, containers string) string {
	now := time.Now().UTC().Format(time.RFC3339)
	return fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q,"lastTransitionTime":%q},{"type":"ContainersReady","status":%q,"lastTransitionTime":%q}]}}`,
		ready, now, containers, now)
}

// Eventf makes world a Recorder.
func (w *world) Eventf(o runtime.Object, _, reason, message string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, o.(client.Object).GetName()+": "+reason+": "+fmt.Sprintf(message, args...))
}

func (w *world) events() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.told...)
}

// term runs the controllers with caches of their own until stop is called.
func (w *world) term() (stop func()) {
	w.Helper()
	logger := w.Logger()
	teller, err := readiness.NewTeller(readiness.TellerOptions{Client: w.Client, Recorder: w, Conditions: true, Log: logger})
	if err != nil {
		w.Fatal(err)
	}
	shared, stopShared := w.StartCache(cache.Options{DefaultTransform: watchcache.Strip})
	termCache, stopTerm := w.StartCache(cache.Options{ByObject: endpoints.TermObjects()})
	gate := w.gate
	options := endpoints.Options{
		Client: w.Client, Shared: shared, Term: termCache,
		Endpoints: true, EndpointSlices: true, MaxEndpointsPerSlice: 100, BatchPeriod: 0, Concurrency: 4,
		Registerer: prometheus.NewRegistry(), Recorder: nil, Observer: teller, Gatekeeper: nil, Log: logger,
	}
	if gate != nil {
		options.Gatekeeper = gate
	}
	c, err := endpoints.New(options)
	if err != nil {
		w.Fatal(err)
	}
	parts := []func(context.Context) error{c.Run, func(ctx context.Context) error { return teller.Run(ctx, c) }}
	if gate != nil {
		parts = append(parts, func(ctx context.Context) error { return gate.Run(ctx, c) })
	}
	stopTermOf := w.Start(parts...)
	return func() {
		stopTermOf()
		stopTerm()
		stopShared()
	}
}
