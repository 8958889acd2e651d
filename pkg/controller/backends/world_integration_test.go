//go:build integration

package backends_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/backends"
	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/watchcache"
	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/apiserver/apitest"
)

// server is the API server that all tests of the package share.
var server *apiserver.Server

func TestMain(m *testing.M) { os.Exit(apitest.Main(m, &server)) }

// cluster is a namespace of the shared server, three nodes that find what the test
// says, and a resolver that knows what the test says.
type cluster struct {
	*apitest.Tenant

	mu    sync.Mutex
	found map[check.Key]string
	names map[string][]netip.Addr
	told  []string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	return &cluster{Tenant: apitest.NewTenant(t, server, ""), found: map[check.Key]string{}, names: map[string][]netip.Addr{}}
}

// Able implements backends.Nodes.
func (w *cluster) Able() ([]string, int) { return []string{"n0", "n1", "n2"}, 3 }

// Ask implements backends.Nodes: a node that finds "-" does not reply.
func (w *cluster) Ask(_ context.Context, names []string, backend check.Key) []verdict.Finding {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []verdict.Finding
	for i, letter := range w.found[backend] {
		switch {
		case i >= len(names) || letter == '-':
		case letter == 'U':
			out = append(out, verdict.Finding{State: verdict.Up})
		case letter == 'D':
			out = append(out, verdict.Finding{State: verdict.Down, Cause: verdict.HTTPStatus, Detail: 503})
		default:
			out = append(out, verdict.Finding{})
		}
	}
	return out
}

// Resolve implements backends.Resolver.
func (w *cluster) Resolve(_ context.Context, name string, ipv4 bool) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if out, known := w.names[name]; known && ipv4 {
		return slices.Clone(out), nil
	}
	return nil, errors.New("nobody answers")
}

func (w *cluster) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// Eventf implements backends.Recorder.
func (w *cluster) Eventf(o runtime.Object, kind, reason, message string, args ...any) {
	w.set(func() {
		w.told = append(w.told, fmt.Sprintf("%s %s %s: %s", o.(*corev1.Service).Name, kind, reason, fmt.Sprintf(message, args...)))
	})
}

// finds sets what the three nodes find of backends of a Service: a letter of each
// for every address, at port 5432.
func (w *cluster) finds(svc *corev1.Service, letters map[string]string) {
	w.Helper()
	request, _ := check.Read(svc)
	if request.Check == nil {
		w.Fatal("nothing is checked")
	}
	w.set(func() {
		for address, l := range letters {
			w.found[request.Check.KeyOf(svc.UID, netip.AddrPortFrom(netip.MustParseAddr(address), 5432))] = l
		}
	})
}

// service makes one without selector, with annotations as pairs.
func (w *cluster) service(name string, annotations ...string) *corev1.Service {
	w.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace, Annotations: map[string]string{}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "pg", Port: 5432}}},
	}
	for i := 0; i < len(annotations); i += 2 {
		svc.Annotations["signpost.dev/"+annotations[i]] = annotations[i+1]
	}
	w.Make(svc)
	return svc
}

// slice makes an EndpointSlice as a user would.
func (w *cluster) slice(service, name string, addresses ...string) *discoveryv1.EndpointSlice {
	w.Helper()
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: w.Namespace, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("pg"), Port: new(int32(5432))}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	w.Make(s)
	return s
}

// ours returns the slices of ours of a Service.
func (w *cluster) ours(name string) []discoveryv1.EndpointSlice {
	w.Helper()
	var list discoveryv1.EndpointSliceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace), client.MatchingLabels{
		discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "external-backends.signpost.dev"}); err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// published returns the addresses in slices of ours, those that get nothing with a
// minus.
func (w *cluster) published(name string) string {
	w.Helper()
	var out []string
	for _, s := range w.ours(name) {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready != *e.Conditions.Serving {
				w.Fatalf("%s: %+v", name, e)
			}
			if text := e.Addresses[0]; *e.Conditions.Ready {
				out = append(out, text)
			} else {
				out = append(out, "-"+text)
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		return strings.Compare(strings.TrimPrefix(a, "-"), strings.TrimPrefix(b, "-"))
	})
	return strings.Join(out, " ")
}

func (w *cluster) waitFor(name, want string) {
	w.Helper()
	got := ""
	defer func() {
		if w.Failed() {
			w.Logf("%s publishes %q", name, got)
		}
	}()
	w.Eventually(fmt.Sprintf("%s publishes %q", name, want), func() bool { got = w.published(name); return got == want })
}

func (w *cluster) condition(name string) string {
	w.Helper()
	svc := &corev1.Service{}
	if err := w.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, svc); err != nil {
		w.Fatal(err)
	}
	for _, c := range svc.Status.Conditions {
		if c.Type == "signpost.dev/BackendsHealthy" {
			return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return ""
}

func (w *cluster) waitForCondition(name, want string) {
	w.Helper()
	got := ""
	defer func() {
		if w.Failed() {
			w.Logf("the condition of %s is %q", name, got)
		}
	}()
	w.Eventually(fmt.Sprintf("the condition of %s is %q", name, want), func() bool { got = w.condition(name); return got == want })
}

// start starts a controller, as a new leader would, and returns what stops it.
func (w *cluster) start() (stop func()) {
	w.Helper()
	shared, stopCache := w.StartCache(cache.Options{DefaultTransform: watchcache.Strip})
	stopController := w.startOn(shared, false)
	return func() {
		stopController()
		stopCache()
	}
}

// startOn is start with a cache that lasts longer.
func (w *cluster) startOn(shared cache.Cache, retire bool) (stop func()) {
	w.Helper()
	c, err := backends.New(backends.Options{
		Client: w.Client, Shared: shared, Nodes: w, Resolver: w, Retire: retire, Concurrency: 4,
		Slices: func(ctx context.Context, k ledger.Key) ([]*discoveryv1.EndpointSlice, error) {
			var list discoveryv1.EndpointSliceList
			if err := shared.List(ctx, &list, client.InNamespace(k.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: k.Name}); err != nil {
				return nil, err
			}
			var out []*discoveryv1.EndpointSlice
			for i := range list.Items {
				out = append(out, &list.Items[i])
			}
			return out, nil
		},
		Registerer: prometheus.NewRegistry(), Recorder: w, Log: w.Logger(),
	})
	if err != nil {
		w.Fatal(err)
	}
	return w.Start(c.Run)
}
