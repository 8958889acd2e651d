//go:build integration

package mirror_test

import (
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestLifeOfAMirror walks through the transitions that have to do with the API
// server; plan has them all.
func TestLifeOfAMirror(t *testing.T) {
	w := newCluster(t, "")
	w.start(nil)
	svc, e := w.service("web"), w.endpoints("web", "192.0.2.1", "2001:db8::1")
	both := []string{"192.0.2.1", "2001:db8::1"}
	w.Make(e)
	w.waitStill(500 * time.Millisecond)
	w.waitFor("web") // there is no Service yet
	w.Make(svc)
	w.waitFor("web", both...)
	names := w.versions()
	t.Log("an address comes: the names stay")
	e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{IP: "192.0.2.2"})
	if err := w.Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	w.waitFor("web", append(both, "192.0.2.2")...)
	for name := range w.versions() {
		if names[name] == "" {
			t.Errorf("%s is a new slice", name)
		}
	}
	t.Log("a selector comes and goes")
	w.Merge(svc, `{"spec":{"selector":{"app":"web"}}}`)
	w.waitFor("web")
	w.Merge(svc, `{"spec":{"selector":null}}`)
	w.waitFor("web", append(both, "192.0.2.2")...)
	for what, patches := range map[string][2]string{
		"skip-mirror": {`{"metadata":{"labels":{"endpointslice.kubernetes.io/skip-mirror":"true"}}}`, `{"metadata":{"labels":null}}`},
		"a lock":      {`{"metadata":{"annotations":{"control-plane.alpha.kubernetes.io/leader":"{}"}}}`, `{"metadata":{"annotations":null}}`},
	} {
		t.Log(what, "comes and goes")
		w.Merge(e, patches[0])
		w.waitFor("web")
		w.Merge(e, patches[1])
		w.waitFor("web", append(both, "192.0.2.2")...)
	}
	t.Log("the trigger time is not copied, and no change")
	w.waitStill(500 * time.Millisecond)
	names = w.versions()
	w.Merge(e, `{"metadata":{"annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-01T00:00:00Z"}}}`)
	w.waitStill(500 * time.Millisecond)
	if diff := cmp.Diff(names, w.versions()); diff != "" {
		t.Errorf("versions (-before +after):\n%s", diff)
	}
	t.Log("ExternalName and back")
	w.Merge(svc, `{"spec":{"type":"ExternalName","externalName":"example.org","clusterIP":"","clusterIPs":null}}`)
	w.waitFor("web")
	w.Merge(svc, `{"spec":{"type":"ClusterIP","externalName":null}}`)
	w.waitFor("web", append(both, "192.0.2.2")...)
	t.Log("Endpoints deleted and made again")
	w.Remove(e)
	w.waitFor("web")
	w.Make(w.endpoints("web", both...))
	w.waitFor("web", both...)
	t.Log("Service deleted")
	w.Remove(svc)
	w.waitFor("web")
}

// TestWhatIsNotOurs: slices of others, locks and the Service "kubernetes".
func TestWhatIsNotOurs(t *testing.T) {
	w := newCluster(t, "")
	w.Make(w.service("by-hand"))
	theirs := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "by-hand-1", Namespace: w.Namespace, Labels: map[string]string{discoveryv1.LabelServiceName: "by-hand"}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.8"}}},
	}
	w.Make(theirs)
	w.Make(w.endpoints("by-hand", "192.0.2.7"))
	lock := w.endpoints("lock", "192.0.2.6")
	lock.Annotations = map[string]string{"control-plane.alpha.kubernetes.io/leader": "{}"}
	w.Make(w.service("lock"))
	w.Make(lock)
	kubernetes := metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}
	all := []client.Object{theirs, lock, w.endpoints("by-hand"), &corev1.Endpoints{ObjectMeta: kubernetes}, &discoveryv1.EndpointSlice{ObjectMeta: kubernetes}}
	versions := func() (out []string) {
		for _, o := range all {
			if err := w.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
				t.Errorf("%T %s: %v", o, o.GetName(), err)
			}
			out = append(out, o.GetResourceVersion())
		}
		return out
	}
	before := versions()
	w.start(nil)
	w.waitFor("by-hand", "192.0.2.7")
	w.waitStill(2 * time.Second)
	w.waitFor("lock")
	if diff := cmp.Diff(before, versions()); diff != "" {
		t.Errorf("versions (-before +after):\n%s", diff)
	}
	var list discoveryv1.EndpointSliceList
	if err := w.List(t.Context(), &list, client.InNamespace("default"), client.MatchingLabels{discoveryv1.LabelServiceName: "kubernetes"}); err != nil || len(list.Items) != 1 {
		t.Errorf("Service kubernetes has %d slices, error %v", len(list.Items), err)
	}
}

// TestFiftyTermsLeaveNothing runs fifty terms over one shared cache, counts
// goroutines, and holds that a new term writes nothing.
func TestFiftyTermsLeaveNothing(t *testing.T) {
	w := newCluster(t, "")
	w.Make(w.service("web"))
	w.Make(w.endpoints("web", "192.0.2.1"))
	shared, stopShared := w.StartCache(cache.Options{})
	defer stopShared()
	stop := w.start(shared)
	w.waitFor("web", "192.0.2.1")
	stop()
	versions := w.versions()
	before := settled(0)
	for range 50 {
		stop := w.start(shared)
		time.Sleep(20 * time.Millisecond)
		stop()
	}
	if after := settled(before); after > before {
		var stacks strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		t.Errorf("%d goroutines before, %d after fifty terms:\n%s", before, after, stacks.String())
	}
	if diff := cmp.Diff(versions, w.versions()); diff != "" {
		t.Errorf("versions (-before +after fifty terms):\n%s", diff)
	}
}

// settled returns the number of goroutines once it is at most want, or when it
// has not been for a while.
func settled(want int) int {
	n := runtime.NumGoroutine()
	for range 50 {
		if n <= want {
			break
		}
		time.Sleep(50 * time.Millisecond)
		n = min(n, runtime.NumGoroutine())
	}
	return n
}
