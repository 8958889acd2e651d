//go:build integration

package loadbalancer_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer"
	"github.com/signpost-dev/signpost/pkg/watchcache"
	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/apiserver/apitest"
	"github.com/signpost-dev/signpost/test/config"
)

// server is the API server that all tests of the package share.
var server *apiserver.Server

func TestMain(m *testing.M) { os.Exit(apitest.Main(m, &server)) }

// cluster is the shared server with nothing in it but what one test makes:
// addresses are the whole cluster's, so tests cannot run beside each other.
type cluster struct {
	*apitest.Tenant
	kinds     client.WithWatch // of CustomResourceDefinitions and LoadBalancerPools
	unclassed bool
}

// newCluster returns one with the kind LoadBalancerPool, whose end removes it.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	w := newClusterWithoutKind(t)
	w.installKind()
	return w
}

func newClusterWithoutKind(t *testing.T) *cluster {
	t.Helper()
	w := &cluster{Tenant: apitest.NewTenant(t, server, ""), unclassed: true}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.kinds, err = client.NewWithWatch(w.Config, client.Options{Scheme: scheme, Mapper: mapper()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.clear)
	return w
}

// clear removes what the next test must not find.
func (w *cluster) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.DeleteAllOf(ctx, &corev1.Service{}, client.InNamespace(w.Namespace)); err != nil {
		w.Error(err)
	}
	kind := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "loadbalancerpools.signpost.dev"}}
	for {
		err := w.kinds.Delete(ctx, kind)
		if apierrors.IsNotFound(err) {
			return
		}
		if err != nil || ctx.Err() != nil {
			w.Errorf("the kind does not go: %v, %v", err, ctx.Err())
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// installKind applies the CustomResourceDefinition of config/default.
func (w *cluster) installKind() {
	w.Helper()
	objects, err := config.Manifests("../../../config/default")
	if err != nil {
		w.Fatal(err)
	}
	for _, o := range objects {
		if kind, is := o.(*apiextensionsv1.CustomResourceDefinition); is {
			if err := w.kinds.Create(w.Context(), kind); err != nil {
				w.Fatal(err)
			}
		}
	}
	w.Eventually("pools can be listed", func() bool { return w.kinds.List(w.Context(), &v1alpha1.LoadBalancerPoolList{}) == nil })
}

func poolOf(name string, addresses ...string) *v1alpha1.LoadBalancerPool {
	return &v1alpha1.LoadBalancerPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.LoadBalancerPoolSpec{Addresses: addresses}}
}

func (w *cluster) makePool(p *v1alpha1.LoadBalancerPool) *v1alpha1.LoadBalancerPool {
	w.Helper()
	if err := w.kinds.Create(w.Context(), p); err != nil {
		w.Fatalf("make pool %s: %v", p.Name, err)
	}
	return p
}

// service returns one of type LoadBalancer, with annotations as pairs.
func (w *cluster) service(name string, annotations ...string) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.Namespace, Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"app": name},
			AllocateLoadBalancerNodePorts: new(false),
		},
	}
	for i := 0; i < len(annotations); i += 2 {
		svc.Annotations[annotations[i]] = annotations[i+1]
	}
	return svc
}

func (w *cluster) makeService(name string, annotations ...string) {
	w.Helper()
	w.Make(w.service(name, annotations...))
}

func (w *cluster) get(name string) *corev1.Service {
	w.Helper()
	svc := &corev1.Service{}
	if err := w.Get(w.Context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, svc); err != nil {
		w.Fatal(err)
	}
	return svc
}

// line writes what the status of a Service says: its addresses, and the reason and
// message unless all is well.
func line(svc *corev1.Service) string {
	var words []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		words = append(words, in.IP)
	}
	for _, c := range svc.Status.Conditions {
		if c.Type == v1alpha1.ConditionAddressAssigned && c.Reason != v1alpha1.ReasonAssigned {
			words = append(words, fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message))
		}
	}
	return strings.Join(words, " ")
}

// says waits until a Service says this.
func (w *cluster) says(name, want string) *corev1.Service {
	w.Helper()
	var svc *corev1.Service
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if svc = w.get(name); line(svc) == want {
			return svc
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s says %q, want %q", name, line(svc), want)
		}
	}
}

// poolSays waits until a pool's status is this: reason, and used/free of IPv4.
func (w *cluster) poolSays(name, want string) {
	w.Helper()
	got := ""
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		p := &v1alpha1.LoadBalancerPool{}
		if err := w.kinds.Get(w.Context(), client.ObjectKey{Name: name}, p); err != nil {
			w.Fatal(err)
		}
		got = ""
		for _, c := range p.Status.Conditions {
			got += fmt.Sprintf("%s %s", c.Status, c.Reason)
			if c.Status != metav1.ConditionTrue {
				got += ": " + c.Message
			}
		}
		if n := p.Status.IPv4; n != nil {
			got += fmt.Sprintf(" %d/%s", n.Used, n.Free)
		}
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("pool %s says %q, want %q", name, got, want)
		}
	}
}

// owners returns all addresses that Services of the namespace publish, with those
// that do.
func (w *cluster) owners(from client.Reader) map[netip.Addr][]string {
	w.Helper()
	var list corev1.ServiceList
	if err := from.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	out := map[netip.Addr][]string{}
	for i := range list.Items {
		for _, in := range list.Items[i].Status.LoadBalancer.Ingress {
			at := netip.MustParseAddr(in.IP)
			out[at] = append(out[at], list.Items[i].Name)
		}
	}
	return out
}

// events returns what was said of Services of the namespace, each once.
func (w *cluster) events() []string {
	w.Helper()
	var list corev1.EventList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	out := []string{}
	for _, e := range list.Items {
		out = append(out, fmt.Sprintf("%s %s %s: %s", e.Type, e.InvolvedObject.Name, e.Reason, e.Message))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// recorder makes Events at once.
type recorder struct{ w *cluster }

func (r recorder) Eventf(o runtime.Object, eventType, reason, message string, args ...any) {
	svc := o.(*corev1.Service)
	_ = r.w.Create(context.Background(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: "e-", Namespace: svc.Namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Service", Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID},
		Type:           eventType, Reason: reason, Message: fmt.Sprintf(message, args...),
	})
}

// start starts a controller with caches of its own, and returns what stops it.
func (w *cluster) start() (stop func()) {
	w.Helper()
	shared, stopShared := w.StartCache(cache.Options{DefaultTransform: watchcache.Strip})
	termCache, stopTerm := w.StartCache(cache.Options{ByObject: loadbalancer.TermObjects()})
	c, err := loadbalancer.New(loadbalancer.Options{
		Client: w.Client, Pools: w.kinds, Shared: shared, Term: termCache, Unclassed: w.unclassed, Concurrency: 8,
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
