//go:build integration

package endpoints_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
)

func TestLifeOfAService(t *testing.T) {
	w := newCluster(t)
	w.start(nil)
	svc := w.service("web")
	w.waitFor("web", "slice without endpoints", "endpoints without addresses")

	one := w.pod("web", 1, "node-1")
	two := w.pod("web", 2, "node-2")
	w.waitFor("web", slices.Concat(both("10.1.0.2", "zone-a"), both("10.1.0.3", "zone-b"))...)

	t.Log("readiness lost and found")
	w.status(one, false, "10.1.0.2")
	w.waitFor("web", append(both("10.1.0.3", "zone-b"), "slice 10.1.0.2 zone-a", "endpoints 10.1.0.2 not ready")...)
	w.status(one, true, "10.1.0.2")
	w.waitFor("web", slices.Concat(both("10.1.0.2", "zone-a"), both("10.1.0.3", "zone-b"))...)

	t.Log("terminating, then gone")
	w.Remove(two, client.GracePeriodSeconds(30))
	w.waitFor("web", append(both("10.1.0.2", "zone-a"), "slice 10.1.0.3 serving terminating zone-b")...)
	w.Remove(two, client.GracePeriodSeconds(0))
	w.waitFor("web", both("10.1.0.2", "zone-a")...)

	t.Log("labels of a pod and of the Service")
	w.Merge(one, `{"metadata":{"labels":{"app":"other"}}}`)
	w.waitFor("web", "slice without endpoints", "endpoints without addresses")
	w.Merge(one, `{"metadata":{"labels":{"app":"web"}}}`)
	w.Merge(svc, `{"metadata":{"labels":{"team":"blue"}}}`)
	w.waitFor("web", both("10.1.0.2", "zone-a")...)

	t.Log("somebody else meddles")
	var list discoveryv1.EndpointSliceList
	w.Eventually("the slice has the Service's label team=blue", func() bool {
		err := w.List(t.Context(), &list, client.InNamespace(w.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: "web", "team": "blue"})
		return err == nil && len(list.Items) == 1
	})
	w.Remove(&list.Items[0])
	w.waitFor("web", both("10.1.0.2", "zone-a")...)
	w.Merge(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: w.Namespace}}, `{"subsets":null}`)
	w.waitFor("web", both("10.1.0.2", "zone-a")...)

	t.Log("selector removed, and back, and ExternalName (kubernetes/kubernetes#118376)")
	w.Merge(svc, `{"spec":{"selector":null}}`)
	w.waitFor("web")
	w.Merge(svc, `{"spec":{"selector":{"app":"web"}}}`)
	w.waitFor("web", both("10.1.0.2", "zone-a")...)
	w.Merge(svc, `{"spec":{"type":"ExternalName","externalName":"example.org","clusterIP":"","clusterIPs":null}}`)
	w.waitFor("web")
	w.Merge(svc, `{"spec":{"type":"ClusterIP","externalName":null}}`)
	w.waitFor("web", both("10.1.0.2", "zone-a")...)

	t.Log("deleted: the Endpoints go at once, the slices are the garbage collector's")
	w.Remove(svc)
	w.waitFor("web", "slice 10.1.0.2 ready serving zone-a")
	w.service("web")
	w.waitFor("web", both("10.1.0.2", "zone-a")...)
}

func TestScaleUpAndDown(t *testing.T) {
	w := newCluster(t)
	w.start(nil, func(o *endpoints.Options) { o.MaxEndpointsPerSlice = 10 })
	w.service("web")
	var pods []*corev1.Pod
	var want []string
	for i := range 35 {
		pods = append(pods, w.pod("web", i, "node-1"))
		want = append(want, both(fmt.Sprintf("10.1.0.%d", i+1), "zone-a")...)
	}
	w.waitFor("web", want...)
	for _, p := range pods[3:] {
		w.Remove(p, client.GracePeriodSeconds(0))
	}
	w.waitFor("web", want[:6]...)
}

// TestWhatStockControllersGetWrong has scenes in which kube-controller-manager
// 1.36 needs minutes or another event.
func TestWhatStockControllersGetWrong(t *testing.T) {
	w := newCluster(t)
	w.start(nil)
	svc := w.service("web")
	pod := w.pod("web", 1, "late-node")
	w.waitFor("web", "slice without endpoints", "endpoints 10.1.0.2 ready")
	t.Log("the pod's Node comes later (kubernetes/kubernetes#107927)")
	w.node("late-node", "")
	w.waitFor("web", "slice 10.1.0.2 ready serving", "endpoints 10.1.0.2 ready")
	t.Log("the node learns its zone (kubernetes/kubernetes#123401)")
	w.Merge(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "late-node"}}, `{"metadata":{"labels":{"topology.kubernetes.io/zone":"zone-c"}}}`)
	w.waitFor("web", both("10.1.0.2", "zone-c")...)
	t.Log("a pod that is not ready, but published, fails")
	w.status(pod, false, "10.1.0.2")
	w.Merge(svc, `{"spec":{"publishNotReadyAddresses":true}}`)
	w.waitFor("web", "slice 10.1.0.2 ready zone-c", "endpoints 10.1.0.2 ready")
	if err := w.Status().Patch(t.Context(), pod, client.RawPatch(types.MergePatchType, []byte(`{"status":{"phase":"Failed"}}`))); err != nil {
		t.Fatal(err)
	}
	w.waitFor("web", "slice without endpoints", "endpoints without addresses")
}

func TestWhatIsNotOurs(t *testing.T) {
	w := newCluster(t)
	noSelector := func(s *corev1.Service) { s.Spec.Selector = nil }
	w.service("by-hand", noSelector)
	address := []corev1.EndpointAddress{{IP: "192.0.2.7"}}
	w.Make(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "by-hand", Namespace: w.Namespace}, Subsets: []corev1.EndpointSubset{{Addresses: address, Ports: []corev1.EndpointPort{{Port: 80}}}}})
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "by-hand-1", Namespace: w.Namespace, Labels: map[string]string{discoveryv1.LabelServiceName: "by-hand"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.8"}}},
	}
	w.Make(slice)
	w.Make(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "leftover", Namespace: w.Namespace}})
	w.Make(&corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "lock", Namespace: w.Namespace, Annotations: map[string]string{"control-plane.alpha.kubernetes.io/leader": "{}"}}})
	version := func(o client.Object) string {
		t.Helper()
		if err := w.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Errorf("%T %s: %v", o, o.GetName(), err)
		}
		return o.GetResourceVersion()
	}
	endpoints := func(ns, name string) *corev1.Endpoints {
		return &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	}
	all := []client.Object{slice, endpoints(w.Namespace, "by-hand"), endpoints(w.Namespace, "lock"), endpoints("default", "kubernetes"),
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}}}
	var before []string
	for _, o := range all {
		before = append(before, version(o))
	}
	tm := w.start(nil)
	w.service("other") // so that there is something to wait for
	w.waitFor("other", "slice without endpoints", "endpoints without addresses")
	w.waitFor("leftover")
	w.Make(endpoints(w.Namespace, "before-its-service"))
	tm.quiet(t, 3)
	for i, o := range append(all, endpoints(w.Namespace, "before-its-service")) {
		if v := version(o); i < len(before) && v != before[i] {
			t.Errorf("%T %s was changed", o, o.GetName())
		}
	}
}

func TestEachKindAlone(t *testing.T) {
	for _, kind := range []string{"slice", "endpoints"} {
		t.Run(kind, func(t *testing.T) {
			w := newCluster(t)
			w.start(nil, func(o *endpoints.Options) { o.EndpointSlices, o.Endpoints = kind == "slice", kind == "endpoints" })
			w.service("web")
			w.pod("web", 1, "node-1")
			want := both("10.1.0.2", "zone-a")
			w.waitFor("web", slices.DeleteFunc(want, func(s string) bool { return !strings.HasPrefix(s, kind) })...)
		})
	}
}

func (w *cluster) manyServices(n int) {
	w.Helper()
	for i := range n {
		app := fmt.Sprint("app", i)
		w.service(app, func(s *corev1.Service) {
			if i%3 == 0 {
				s.Spec.ClusterIP = corev1.ClusterIPNone
			}
		})
		for j := range i % 5 {
			w.pod(app, j, "node-1")
		}
	}
}

func (w *cluster) waitForMany(n int) {
	w.Helper()
	for i := range n {
		want := []string{"slice without endpoints", "endpoints without addresses"}
		if i%5 > 0 {
			want = nil
		}
		for j := range i % 5 {
			want = append(want, both(fmt.Sprintf("10.1.0.%d", j+1), "zone-a")...)
		}
		w.waitFor(fmt.Sprint("app", i), want...)
	}
}

// TestFieldsAreNotTracked: the server keeps no book of the fields of what is
// written here, which costs it a quarter of each update, unless somebody else
// applies something to it.
func TestFieldsAreNotTracked(t *testing.T) {
	w := newCluster(t)
	w.start(nil)
	w.service("web")
	w.node("node-1", "zone-a")
	pod := w.pod("web", 1, "node-1")
	w.waitFor("web", both("10.1.0.2", "zone-a")...)
	slice := func() *discoveryv1.EndpointSlice {
		t.Helper()
		var list discoveryv1.EndpointSliceList
		if err := w.List(t.Context(), &list, client.InNamespace(w.Namespace)); err != nil || len(list.Items) != 1 {
			t.Fatalf("%d slices, %v", len(list.Items), err)
		}
		return &list.Items[0]
	}
	w.status(pod, false, "10.1.0.2")
	w.waitFor("web", "slice 10.1.0.2 zone-a", "endpoints 10.1.0.2 not ready")
	if m := slice().ManagedFields; len(m) > 0 {
		t.Errorf("the server keeps book of an object that nobody applies: %v", m)
	}

	t.Log("somebody applies an annotation")
	apply := &discoveryv1.EndpointSlice{
		TypeMeta:    metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta:  metav1.ObjectMeta{Namespace: w.Namespace, Name: slice().Name, Annotations: map[string]string{"theirs": "1"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	text, err := json.Marshal(apply)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Patch(t.Context(), apply, client.RawPatch(types.ApplyPatchType, text), client.FieldOwner("them"), client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
	w.status(pod, true, "10.1.0.2")
	w.waitFor("web", both("10.1.0.2", "zone-a")...)
	if !slices.ContainsFunc(slice().ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == "them" }) {
		t.Errorf("what they manage is forgotten: %v", slice().ManagedFields)
	}
}

func TestRestartWritesNothing(t *testing.T) {
	w := newCluster(t)
	w.manyServices(20)
	first := w.start(nil)
	w.waitForMany(20)
	first.quiet(t, 20)
	first.stop()
	again := w.start(nil)
	again.quiet(t, 20)
	if n := again.writes(t); n != 0 {
		t.Errorf("%d writes after a restart", n)
	}
}

// TestTwoAtOnceDoNotFight: for a moment after a leader was cut off there may be
// two. They may do work twice, but must agree in the end.
func TestTwoAtOnceDoNotFight(t *testing.T) {
	w := newCluster(t)
	small := func(o *endpoints.Options) { o.MaxEndpointsPerSlice = 3 }
	one, two := w.start(nil, small), w.start(nil, small)
	w.manyServices(10)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		i := 1 + 5*rng.IntN(2) + rng.IntN(4) // those with pods
		j := rng.IntN(i % 5)
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: fmt.Sprintf("app%d-%d", i, j)}}
		w.status(p, rng.IntN(2) == 0, fmt.Sprintf("10.1.0.%d", j+1))
	}
	for i := range 10 {
		for j := range i % 5 {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: fmt.Sprintf("app%d-%d", i, j)}}
			w.status(p, true, fmt.Sprintf("10.1.0.%d", j+1))
		}
	}
	w.waitForMany(10)
	one.quiet(t, 10)
	two.quiet(t, 10)
	w.waitForMany(10)
	t.Logf("writes: %d and %d, refused %d and %d", one.writes(t), two.writes(t),
		one.count(t, "signpost_controller_endpoints_writes_total", "result", "behind"),
		two.count(t, "signpost_controller_endpoints_writes_total", "result", "behind"))
	before := one.writes(t) + two.writes(t)
	time.Sleep(2 * time.Second)
	if after := one.writes(t) + two.writes(t); after != before {
		t.Errorf("%d writes while nothing changed", after-before)
	}
}

// TestFiftyTermsLeaveNothing runs fifty terms over one shared cache, and counts
// goroutines.
func TestFiftyTermsLeaveNothing(t *testing.T) {
	w := newCluster(t)
	w.manyServices(5)
	shared, stopShared := w.StartCache(sharedOptions())
	defer stopShared()
	one := func() {
		tm := w.start(shared)
		tm.quietly(t, 5)
		tm.stop()
	}
	one() // so that connections and informers of the process's lifetime are there
	before := settled(0)
	for range 50 {
		one()
	}
	if after := settled(before); after > before {
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		t.Errorf("%d goroutines before, %d after fifty terms:\n%s", before, after, stacks.String())
	}
}

// quietly waits until the controller has synced n times.
func (tm *term) quietly(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for tm.count(t, "signpost_controller_endpoints_sync_duration_seconds", "", "") < n {
		if time.Now().After(deadline) {
			t.Fatal("the controller does nothing")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settled returns the number of goroutines once it is at most want, or when it
// has not been for a while.
func settled(want int) int {
	for range 50 {
		if n := runtime.NumGoroutine(); n <= want {
			return n
		}
		time.Sleep(100 * time.Millisecond)
	}
	return runtime.NumGoroutine()
}

// TestNamespaceGoesAway: nothing can be made there any more, and that is no error.
func TestNamespaceGoesAway(t *testing.T) {
	w := newCluster(t)
	tm := w.start(nil)
	w.service("web")
	w.waitFor("web", "slice without endpoints", "endpoints without addresses")
	w.Remove(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}})
	if err := w.DeleteAllOf(t.Context(), &discoveryv1.EndpointSlice{}, client.InNamespace(w.Namespace)); err != nil {
		t.Fatal(err)
	}
	tm.quiet(t, 2)
	w.waitFor("web", "endpoints without addresses")
	if n := tm.count(t, "signpost_controller_endpoints_writes_total", "result", "error"); n > 2 {
		t.Errorf("%d creations were tried in a namespace that is going away", n)
	}
}

// TestOutage: the server is away; what it refused meanwhile is written when it is
// back, and what changed meanwhile is noticed. Each is a Service's of its own, as
// one change would bring the other along.
func TestOutage(t *testing.T) {
	const (
		batch = 3 * time.Second // so long the write waits, and then finds no server
		bound = 20 * time.Second
	)
	w := newCluster(t)
	tm := w.start(nil, func(o *endpoints.Options) { o.BatchPeriod = batch })
	w.service("refused")
	w.service("changed")
	late, gone := w.pod("refused", 1, "node-1"), w.pod("changed", 2, "node-1")
	w.status(late, false, "10.1.0.2")
	w.waitFor("refused", "slice 10.1.0.2 zone-a", "endpoints 10.1.0.2 not ready")
	w.waitFor("changed", both("10.1.0.3", "zone-a")...)
	time.Sleep(batch) // what waits since the pods were made is through
	tm.quiet(t, 2)
	written := tm.results(t, "ok")

	w.status(late, true, "10.1.0.2")
	time.Sleep(batch / 4) // the controller hears of it
	if err := server.StopAPI(); err != nil {
		t.Fatal(err)
	}
	// The server comes back whatever fails: other tests need it.
	if err := server.Forget(t.Context(), "pods", w.Namespace, gone.Name); err != nil {
		t.Error(err)
	}
	// One try is two writes, one per kind. The next must not wait for the server:
	// its return makes the controller look at all Services anyway.
	for deadline := time.Now().Add(bound); tm.results(t, "error") <= 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d writes were refused: the controller has not heard of the pod, or has not tried again", tm.results(t, "error"))
			break
		}
	}
	if n := tm.results(t, "ok") - written; n > 0 {
		t.Errorf("%d writes were made before the server was away, want none", n)
	}
	if err := server.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	w.service("new")
	w.waitFor("refused", both("10.1.0.2", "zone-a")...)
	w.waitFor("changed", "slice without endpoints", "endpoints without addresses")
	w.waitFor("new", "slice without endpoints", "endpoints without addresses")
	took := time.Since(began)
	t.Logf("right again %v after the server was back", took)
	if took > bound {
		t.Errorf("right again after %v, want at most %v", took, bound)
	}
}

// results returns how many writes have had this result.
func (tm *term) results(t *testing.T, result string) int {
	t.Helper()
	return tm.count(t, "signpost_controller_endpoints_writes_total", "result", result)
}

// TestLatency measures the time from the answer to the status patch of a pod to
// the event of the slice that publishes it.
func TestLatency(t *testing.T) {
	w := newCluster(t)
	tm := w.start(nil)
	for i := range 50 {
		w.service(fmt.Sprint("bystander", i))
	}
	w.service("web")
	pods := make([]*corev1.Pod, 20)
	var want []string
	for i := range pods {
		pods[i] = w.pod("web", i, "node-1")
		want = append(want, both(fmt.Sprintf("10.1.0.%d", i+1), "zone-a")...)
	}
	w.waitFor("web", want...)
	tm.quiet(t, 50)
	watched, err := client.NewWithWatch(w.Config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// From a list on: a watch from "now" has to wait until the API server's own
	// cache knows what is now, which it gives up after three seconds if its etcd
	// is an old one.
	var now discoveryv1.EndpointSliceList
	if err := watched.List(t.Context(), &now, client.InNamespace(w.Namespace)); err != nil {
		t.Fatal(err)
	}
	events, err := watched.Watch(t.Context(), &discoveryv1.EndpointSliceList{}, client.InNamespace(w.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: "web"},
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: now.ResourceVersion}})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	var took []time.Duration
	before := tm.writes(t)
	const rounds = 200
	for round := range rounds {
		i, ready := round%len(pods), (round/len(pods))%2 == 1
		ip := fmt.Sprintf("10.1.0.%d", i+1)
		w.status(pods[i], ready, ip)
		began := time.Now()
		w.waitEvent(events, fmt.Sprintf("%s ready=%v", ip, ready), func(s *discoveryv1.EndpointSlice) bool {
			return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Addresses[0] == ip && *e.Conditions.Ready == ready })
		})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	tm.quiet(t, 1)
	t.Logf("status written to slice seen: p50 %v, p99 %v, max %v", took[rounds/2], took[rounds*99/100], took[rounds-1])
	t.Logf("%d writes of slices and Endpoints for %d changes", tm.writes(t)-before, rounds)
	if took[rounds/2] > time.Second {
		t.Errorf("half of the changes took more than a second")
	}
	if n := tm.writes(t) - before; n > 2*rounds {
		t.Errorf("%d writes for %d changes", n, rounds)
	}
}

// waitEvent waits until a watch tells of a slice that is wanted. A watch that
// ends, or that does not tell in time, fails the test.
func (w *cluster) waitEvent(events watch.Interface, what string, wanted func(*discoveryv1.EndpointSlice) bool) {
	w.Helper()
	const limit = 10 * time.Second
	late := time.After(limit)
	for {
		select {
		case event, open := <-events.ResultChan():
			if !open || event.Type == watch.Error {
				w.Fatalf("the watch ended before it told of %s: %v", what, event.Object)
			}
			if s, ok := event.Object.(*discoveryv1.EndpointSlice); ok && wanted(s) {
				return
			}
		case <-late:
			w.Fatalf("no slice with %s in %v", what, limit)
		}
	}
}
