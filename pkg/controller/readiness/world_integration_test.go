//go:build integration

package readiness_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/readiness"
	"github.com/signpost-dev/signpost/test/apiserver"
)

// server is the API server that all tests of the package share.
var server *apiserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	klog.SetLogger(logr.Discard())
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

// world is a namespace of the server, and a term of the controllers.
type world struct {
	*testing.T
	client.Client
	config *rest.Config
	ns     string
	// gate is part of the next term, if it is not nil.
	gate *readiness.Gate

	mu   sync.Mutex
	told []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	config := server.Config()
	config.WarningHandler, config.QPS = rest.NoWarnings{}, -1
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Client: c, config: config, ns: strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))}
	w.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.ns}})
	return w
}

func (w *world) make(o client.Object) {
	w.Helper()
	if err := w.Create(w.Context(), o); err != nil {
		w.Fatalf("make %T %s: %v", o, o.GetName(), err)
	}
}

// node makes a Node that is ready, until the test ends.
func (w *world) node(name string) {
	w.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	w.make(n)
	w.Cleanup(func() { _ = w.Delete(context.Background(), n) })
	w.status(n, `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`)
}

func (w *world) service(name string, selector map[string]string) *corev1.Service {
	w.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.ns},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	w.make(svc)
	return svc
}

// pod makes a pod that has the status, a JSON object, and an address.
func (w *world) pod(name, ip, node string, labels map[string]string, status string, gates ...corev1.PodConditionType) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.ns, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "app", Image: "none"}}},
	}
	for _, g := range gates {
		p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: g})
	}
	w.make(p)
	w.status(p, fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}]}}`, ip, ip))
	w.status(p, status)
	return p
}

func (w *world) status(o client.Object, patch string) {
	w.Helper()
	if err := w.Status().Patch(w.Context(), o, client.RawPatch(types.StrategicMergePatchType, []byte(patch))); err != nil {
		w.Fatalf("patch the status of %s: %v", o.GetName(), err)
	}
}

// conditions writes Ready and ContainersReady as a kubelet does.
func conditions(ready, containers string) string {
	now := time.Now().UTC().Format(time.RFC3339)
	return fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q,"lastTransitionTime":%q},{"type":"ContainersReady","status":%q,"lastTransitionTime":%q}]}}`,
		ready, now, containers, now)
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("not in time: %s", what)
		}
	}
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
	logger := slog.New(slog.NewTextHandler(testWriter{w.T}, nil))
	teller, err := readiness.NewTeller(readiness.TellerOptions{Client: w.Client, Recorder: w, Conditions: true, Log: logger})
	if err != nil {
		w.Fatal(err)
	}
	shared, err := cache.New(w.config, cache.Options{})
	if err != nil {
		w.Fatal(err)
	}
	termCache, err := cache.New(w.config, cache.Options{ByObject: endpoints.TermObjects()})
	if err != nil {
		w.Fatal(err)
	}
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
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return shared.Start(ctx) })
	g.Go(func() error { return termCache.Start(ctx) })
	g.Go(func() error { return c.Run(ctx) })
	g.Go(func() error { return teller.Run(ctx, c) })
	if gate != nil {
		g.Go(func() error { return gate.Run(ctx, c) })
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := g.Wait(); err != nil {
			w.Error(err)
		}
	})
	w.Cleanup(stop)
	return stop
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
