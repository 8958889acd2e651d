//go:build integration

package backends_test

import (
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/mirror"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// TestBackendFailsAndComesBack: by what three nodes find; when all fail, all stay.
// The slice that the user has written is not touched.
func TestBackendFailsAndComesBack(t *testing.T) {
	w := newCluster(t)
	defer w.start()()
	svc := w.service("db", "health-check", "http", "health-check-interval", "1s")
	theirs := w.slice("db", "by-hand", "192.0.2.1", "192.0.2.2", "192.0.2.3")
	w.waitFor("db", "192.0.2.1 192.0.2.2 192.0.2.3")
	w.waitForCondition("db", "Unknown Checking: none of 3 backends has been checked by enough nodes yet; until then all get packets")

	w.finds(svc, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "UUU", "192.0.2.3": "UUU"})
	w.waitForCondition("db", "True AllHealthy: 3 of 3 backends pass the check")
	w.waitFor("db", "192.0.2.1 192.0.2.2 192.0.2.3")

	w.finds(svc, map[string]string{"192.0.2.2": "DUU"})
	time.Sleep(1500 * time.Millisecond)
	w.waitFor("db", "192.0.2.1 192.0.2.2 192.0.2.3")
	began := time.Now()
	w.finds(svc, map[string]string{"192.0.2.2": "DUD"})
	w.waitFor("db", "192.0.2.1 -192.0.2.2 192.0.2.3")
	t.Logf("FIGURE two nodes find it down: out %s later", time.Since(began).Round(time.Millisecond))
	w.waitForCondition("db", "False BackendsDown: 1 of 3 backends fail the check: 192.0.2.2:5432 (HTTP status 503)")

	w.finds(svc, map[string]string{"192.0.2.2": "DU?"})
	time.Sleep(1500 * time.Millisecond)
	w.waitFor("db", "192.0.2.1 -192.0.2.2 192.0.2.3")
	w.finds(svc, map[string]string{"192.0.2.2": "UU?"})
	w.waitFor("db", "192.0.2.1 192.0.2.2 192.0.2.3")
	w.waitForCondition("db", "True AllHealthy: 3 of 3 backends pass the check")

	w.finds(svc, map[string]string{"192.0.2.1": "DDD", "192.0.2.2": "DDD", "192.0.2.3": "DDU"})
	w.waitForCondition("db", "False FailOpen: 3 of 3 backends fail the check, and as none would be left, get packets all the same: 192.0.2.1:5432 (HTTP status 503); 192.0.2.2:5432 (HTTP status 503); 192.0.2.3:5432 (HTTP status 503)")
	w.waitFor("db", "192.0.2.1 192.0.2.2 192.0.2.3")
	w.finds(svc, map[string]string{"192.0.2.3": "UUU"})
	w.waitFor("db", "-192.0.2.1 -192.0.2.2 192.0.2.3")

	is := &discoveryv1.EndpointSlice{}
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(theirs), is); err != nil || is.ResourceVersion != theirs.ResourceVersion {
		t.Errorf("the user's slice has been written to: %v, %+v", err, is)
	}
	ours := w.ours("db")
	if len(ours) != 1 || !metav1.IsControlledBy(&ours[0], svc) {
		t.Errorf("%+v", ours)
	}
	want := []string{
		"db Warning BackendsDown: 1 of 3 backends fail the check: 192.0.2.2:5432 (HTTP status 503)",
		"db Normal AllHealthy: 3 of 3 backends pass the check", "db Warning FailOpen", "db Warning BackendsDown",
	}
	w.Eventually("Events", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.told) >= len(want)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.EqualFunc(w.told, want, strings.HasPrefix) {
		t.Errorf("Events: %s", strings.Join(w.told, "\n"))
	}
}

// TestEndpointsOfTheUser: they come by their mirror.
func TestEndpointsOfTheUser(t *testing.T) {
	w := newCluster(t)
	defer w.start()()
	shared, stopShared := w.StartCache(cache.Options{DefaultTransform: watchcache.Strip})
	defer stopShared()
	termCache, stopTerm := w.StartCache(cache.Options{ByObject: endpoints.TermObjects()})
	defer stopTerm()
	m, err := mirror.New(mirror.Options{Client: w.Client, Shared: shared, Term: termCache, MaxEndpointsPerSubset: 1000, Concurrency: 1, Registerer: prometheus.NewRegistry(), Log: w.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Start(m.Run)()
	svc := w.service("db", "health-check", "tcp", "health-check-interval", "1s")
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: w.Namespace}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}, {IP: "192.0.2.2"}}, NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.9"}},
		Ports: []corev1.EndpointPort{{Name: "pg", Port: 5432}},
	}}}
	w.Make(e)
	w.finds(svc, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "DDD", "192.0.2.9": "UUU"})
	w.waitFor("db", "192.0.2.1 -192.0.2.2 -192.0.2.9")
	e.Subsets[0].Addresses = e.Subsets[0].Addresses[1:]
	if err := w.Update(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	w.waitFor("db", "192.0.2.2 -192.0.2.9") // the last one, down or not
}

// TestAnnotationComesAndGoes: and one that cannot be understood takes nothing away.
func TestAnnotationComesAndGoes(t *testing.T) {
	w := newCluster(t)
	defer w.start()()
	svc := w.service("db")
	other := w.service("other", "health-check", "tcp", "health-check-interval", "1s")
	w.slice("db", "by-hand", "192.0.2.1", "192.0.2.2")
	w.slice("other", "others", "192.0.2.1", "192.0.2.2")
	w.finds(other, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "DDD"})
	w.waitFor("other", "192.0.2.1 -192.0.2.2")
	w.waitForCondition("other", "False BackendsDown: 1 of 2 backends fail the check: 192.0.2.2:5432 (HTTP status 503)")
	w.waitFor("db", "")

	w.Merge(svc, `{"metadata":{"annotations":{"signpost.dev/health-check":"tcp","signpost.dev/health-check-interval":"1s"}}}`)
	w.finds(svc, map[string]string{"192.0.2.1": "DDD", "192.0.2.2": "UUU"})
	w.waitFor("db", "-192.0.2.1 192.0.2.2")

	w.Merge(svc, `{"metadata":{"annotations":{"signpost.dev/health-check-interval":"often"}}}`)
	w.waitFor("db", "192.0.2.1 192.0.2.2")
	w.waitForCondition("db", `False InvalidHealthCheck: annotation signpost.dev/health-check-interval: "often" is not a duration such as 2s`)
	w.Eventually("an Event", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.ContainsFunc(w.told, func(s string) bool { return strings.HasPrefix(s, "db Warning InvalidHealthCheck: ") })
	})
	w.waitFor("other", "192.0.2.1 -192.0.2.2")

	w.Merge(svc, `{"metadata":{"annotations":{"signpost.dev/health-check":null,"signpost.dev/health-check-interval":null}}}`)
	w.waitFor("db", "")
	w.Eventually("no slice of ours is left", func() bool { return len(w.ours("db")) == 0 })
	w.waitForCondition("db", "")

	w.Merge(svc, `{"metadata":{"annotations":{"signpost.dev/health-check":"tcp"}},"spec":{"selector":{"app":"db"}}}`)
	w.waitForCondition("db", "False InvalidHealthCheck: annotation signpost.dev/health-check: the Service has a selector: its pods say by their readiness probes whether they work")
	if len(w.ours("db")) > 0 {
		t.Error("a Service with a selector has slices of ours")
	}
}

// TestNewLeaderKeepsWhatIsPublished: also while it hears nothing.
func TestNewLeaderKeepsWhatIsPublished(t *testing.T) {
	w := newCluster(t)
	stop := w.start()
	svc := w.service("db", "health-check", "tcp", "health-check-interval", "1s")
	w.slice("db", "by-hand", "192.0.2.1", "192.0.2.2", "192.0.2.3")
	w.finds(svc, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "DDD", "192.0.2.3": "UUU"})
	w.waitFor("db", "192.0.2.1 -192.0.2.2 192.0.2.3")
	before := w.ours("db")
	stop()
	w.finds(svc, map[string]string{"192.0.2.1": "?--", "192.0.2.2": "?--", "192.0.2.3": "D--"})
	stop = w.start()
	time.Sleep(3 * time.Second)
	if diff := cmp.Diff(before, w.ours("db")); diff != "" {
		t.Errorf("a new leader that hears nothing has written:\n%s", diff)
	}
	w.finds(svc, map[string]string{"192.0.2.1": "UU-", "192.0.2.2": "UU-", "192.0.2.3": "DD-"})
	w.waitFor("db", "192.0.2.1 192.0.2.2 -192.0.2.3")
	stop()
}

// TestNobodyCanCheck: when no node has anything to say for long, all get packets.
func TestNobodyCanCheck(t *testing.T) {
	w := newCluster(t)
	defer w.start()()
	svc := w.service("db", "health-check", "tcp", "health-check-interval", "1s", "health-check-timeout", "100ms")
	w.slice("db", "by-hand", "192.0.2.1", "192.0.2.2")
	w.finds(svc, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "DDD"})
	w.waitFor("db", "192.0.2.1 -192.0.2.2")
	w.finds(svc, map[string]string{"192.0.2.1": "???", "192.0.2.2": "---"})
	time.Sleep(5 * time.Second)
	w.waitFor("db", "192.0.2.1 -192.0.2.2")
	w.waitFor("db", "192.0.2.1 192.0.2.2")
	w.finds(svc, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "DDD"})
	w.waitFor("db", "192.0.2.1 -192.0.2.2")
}

// TestNames: their addresses are backends, and stay while nobody answers.
func TestNames(t *testing.T) {
	w := newCluster(t)
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	w.names["a.example.com"], w.names["b.example.com"] = []netip.Addr{b, a}, []netip.Addr{c, b}
	stop := w.start()
	svc := w.service("db", "backend-names", "a.example.com, b.example.com")
	w.waitFor("db", "192.0.2.1 192.0.2.2 192.0.2.3")
	w.waitForCondition("db", "True NotChecked: none of 3 backends is checked: there is no annotation signpost.dev/health-check")

	w.Merge(svc, `{"metadata":{"annotations":{"signpost.dev/health-check":"tcp","signpost.dev/health-check-interval":"1s"}}}`)
	w.finds(svc, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "DDD", "192.0.2.3": "UUU"})
	w.waitFor("db", "192.0.2.1 -192.0.2.2 192.0.2.3")
	w.set(func() { delete(w.names, "b.example.com"); w.names["a.example.com"] = []netip.Addr{a} })
	w.waitFor("db", "192.0.2.1 -192.0.2.2 192.0.2.3") // 192.0.2.2 is also b's
	w.waitForCondition("db", "False NamesNotResolved: b.example.com: nobody answers")

	stop()
	w.set(func() { clear(w.names) })
	defer w.start()()
	time.Sleep(2 * time.Second)
	w.waitFor("db", "192.0.2.1 -192.0.2.2 192.0.2.3")
	w.set(func() { w.names["a.example.com"], w.names["b.example.com"] = []netip.Addr{a}, []netip.Addr{} })
	w.waitForCondition("db", "False NamesNotResolved: b.example.com: it has no address")
	w.waitFor("db", "192.0.2.1 -192.0.2.2 192.0.2.3")
	w.set(func() { w.names["b.example.com"] = []netip.Addr{a} })
	w.waitFor("db", "192.0.2.1")
}

// TestTermsLeaveNothing: twenty terms on one cache leave no goroutine, and write
// nothing that the first one has not written.
func TestTermsLeaveNothing(t *testing.T) {
	w := newCluster(t)
	w.set(func() { w.names["a.example.com"] = []netip.Addr{netip.MustParseAddr("192.0.2.3")} })
	svc := w.service("db", "health-check", "tcp", "health-check-interval", "1s", "backend-names", "a.example.com")
	w.slice("db", "by-hand", "192.0.2.1", "192.0.2.2")
	w.finds(svc, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "DDD", "192.0.2.3": "UUU"})
	shared, stopCache := w.StartCache(cache.Options{DefaultTransform: watchcache.Strip})
	defer stopCache()
	term := func() {
		stop := w.startOn(shared, false)
		w.waitFor("db", "192.0.2.1 -192.0.2.2 192.0.2.3")
		w.waitForCondition("db", "False BackendsDown: 1 of 3 backends fail the check: 192.0.2.2:5432 (HTTP status 503)")
		time.Sleep(100 * time.Millisecond)
		stop()
	}
	term()
	time.Sleep(time.Second) // connections to the server, and what they need, are there
	before, goroutines := w.ours("db"), runtime.NumGoroutine()
	for range 20 {
		term()
	}
	w.Eventually("no more goroutines than before", func() bool { return runtime.NumGoroutine() <= goroutines })
	if diff := cmp.Diff(before, w.ours("db")); diff != "" {
		t.Errorf("a later term has written:\n%s", diff)
	}
}

// TestRetire: turned off, it takes back what it has published and said, and leaves
// alone what others have.
func TestRetire(t *testing.T) {
	w := newCluster(t)
	shared, stopCache := w.StartCache(cache.Options{DefaultTransform: watchcache.Strip})
	defer stopCache()
	stop := w.startOn(shared, false)
	svc := w.service("db", "health-check", "tcp", "health-check-interval", "1s")
	theirs := w.slice("db", "by-hand", "192.0.2.1", "192.0.2.2")
	w.finds(svc, map[string]string{"192.0.2.1": "UUU", "192.0.2.2": "DDD"})
	w.waitFor("db", "192.0.2.1 -192.0.2.2")
	w.waitForCondition("db", "False BackendsDown: 1 of 2 backends fail the check: 192.0.2.2:5432 (HTTP status 503)")
	stop()
	stop = w.startOn(shared, true)
	w.Eventually("no slice of ours is left", func() bool { return len(w.ours("db")) == 0 })
	w.waitForCondition("db", "")
	w.Merge(svc, `{"metadata":{"annotations":{"signpost.dev/health-check-interval":"often"}}}`)
	time.Sleep(500 * time.Millisecond)
	stop()
	if n, c := len(w.ours("db")), w.condition("db"); n > 0 || c != "" {
		t.Errorf("%d slices, and it says %q", n, c)
	}
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(theirs), &discoveryv1.EndpointSlice{}); err != nil {
		t.Error(err)
	}
	defer w.startOn(shared, false)()
	w.Merge(svc, `{"metadata":{"annotations":{"signpost.dev/health-check-interval":"1s"}}}`)
	w.waitFor("db", "192.0.2.1 -192.0.2.2")
}
