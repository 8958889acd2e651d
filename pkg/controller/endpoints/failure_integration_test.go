//go:build integration

package endpoints_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/nodes"
	"github.com/signpost-dev/signpost/pkg/controller/nodes/evidence"
)

// rumours are what nodes hear of each other, made up.
type rumours struct {
	mu sync.Mutex
	// own has since when each node is silent; zero if it is not, and never if it was
	// never heard by this one.
	own    map[string]time.Time
	others map[string]time.Time // the same for the others
}

var never = time.Unix(1, 0)

func (r *rumours) ProbeAll(bool) {}

func (r *rumours) Opinions() map[string]evidence.Opinion {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]evidence.Opinion{}
	for name, since := range r.own {
		out[name] = opinion(since)
	}
	return out
}

func (r *rumours) About(_ context.Context, node string) []evidence.Opinion {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := opinion(r.others[node])
	return []evidence.Opinion{o, o}
}

func (r *rumours) Vouch(node string, silence time.Duration) { r.silent(node, silence) }

func opinion(since time.Time) evidence.Opinion {
	switch {
	case since.Equal(never):
		return evidence.Opinion{}
	case since.IsZero():
		return evidence.Opinion{State: evidence.Alive}
	}
	return evidence.Opinion{State: evidence.Silent, Silence: time.Since(since)}
}

// silent has nodes be silent for everybody, for so long already.
func (r *rumours) silent(node string, since time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own[node], r.others[node] = time.Now().Add(-since), time.Now().Add(-since)
}

// alive has nodes give signs of life to all.
func (r *rumours) alive(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range names {
		r.own[n], r.others[n] = time.Time{}, time.Time{}
	}
}

// renewed writes the Lease of a node as its kubelet does, some time ago.
func (w *cluster) renewed(node string, ago time.Duration) {
	w.Helper()
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: node}}
	spec := coordinationv1.LeaseSpec{LeaseDurationSeconds: new(int32(40)), RenewTime: new(metav1.NewMicroTime(time.Now().Add(-ago)))}
	err := w.Get(w.Context(), client.ObjectKeyFromObject(l), l)
	l.Spec = spec
	if apierrors.IsNotFound(err) {
		w.Make(l)
		w.Cleanup(func() { _ = w.Delete(context.Background(), l) })
	} else if err := w.Update(w.Context(), l); err != nil {
		w.Fatal(err)
	}
}

// watchNodes runs a node watcher on a controller until the test ends, or stop.
func (w *cluster) watchNodes(mode evidence.Mode, r *rumours) (before func(context.Context, *endpoints.Controller), stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	stop = func() { cancel(); wg.Wait() }
	w.Cleanup(stop)
	return func(_ context.Context, c *endpoints.Controller) {
		watcher, err := nodes.New(nodes.Options{
			Leases: w.Client, Peers: r, Endpoints: c, Mode: mode, Recorder: nil,
			Registerer: prometheus.NewRegistry(), Log: w.Logger(),
		})
		if err != nil {
			w.Fatal(err)
		}
		watcher.Start(ctx)
		wg.Go(func() {
			if err := watcher.Run(ctx); err != nil {
				w.Error(err)
			}
		})
	}, stop
}

// TestDeadNode: of a Service with 40 pods on two nodes in four slices one node
// dies. What the test calls nodes are Nodes of a cluster of six.
func TestDeadNode(t *testing.T) {
	w := newCluster(t)
	r := &rumours{own: map[string]time.Time{}, others: map[string]time.Time{}}
	r.alive("mortal-1", "mortal-2", "mortal-3", "mortal-4", "mortal-5")
	w.node("mortal-1", "zone-a") // on which no other test has pods
	w.node("mortal-2", "zone-b")
	w.service("web")
	var good, out []string
	for i := range 40 {
		node, zone := []string{"mortal-1", "mortal-2"}[i%2], []string{"zone-a", "zone-b"}[i%2]
		p := w.pod("web", i, node)
		good = append(good, both(p.Status.PodIP, zone)...)
		if node == "mortal-1" {
			out = append(out, "slice "+p.Status.PodIP+" zone-a", "endpoints "+p.Status.PodIP+" not ready")
		} else {
			out = append(out, both(p.Status.PodIP, zone)...)
		}
	}
	w.renewed("mortal-1", 8*time.Second)
	w.renewed("mortal-2", 8*time.Second)
	small := func(o *endpoints.Options) { o.MaxEndpointsPerSlice = 10 }
	before, stopWatch := w.watchNodes(evidence.Fast, r)
	tm := w.startAfter(before, nil, small)
	w.waitFor("web", good...)
	tm.quiet(t, 1)
	pods := w.versionsOfPods()

	t.Log("silent for all, and no renewal: out, in as many writes as there are objects")
	writes := w.generations("web")
	r.silent("mortal-1", 2800*time.Millisecond)
	began := time.Now()
	w.waitFor("web", out...)
	t.Logf("3 s of silence were over 0.2 s after the beginning, the endpoints out after %v", time.Since(began).Round(time.Millisecond))
	if n := w.generations("web") - writes; n > 4 {
		t.Errorf("%d writes for four slices", n)
	}

	t.Log("another leader finds it as it is, and writes nothing")
	stopWatch()
	tm.stop()
	found := w.versions()
	r.mu.Lock()
	r.own["mortal-1"] = never
	r.mu.Unlock()
	before, _ = w.watchNodes(evidence.Fast, r)
	tm = w.startAfter(before, nil, small)
	tm.quiet(t, 1)
	if diff := cmp.Diff(found, w.versions()); diff != "" {
		t.Errorf("a new leader has written (-found +left):\n%s", diff)
	}
	w.waitFor("web", out...)

	t.Log("a sign of life: back")
	r.alive("mortal-1")
	began = time.Now()
	w.waitFor("web", good...)
	t.Logf("the endpoints are back %v after the sign of life", time.Since(began).Round(time.Millisecond))
	tm.quiet(t, 1)

	t.Log("most nodes silent at once: kept")
	found = w.versions()
	for _, n := range []string{"mortal-1", "mortal-2", "mortal-3"} {
		r.silent(n, 10*time.Second)
	}
	time.Sleep(3 * time.Second)
	w.renewed("mortal-1", 0) // first, lest it be the only one with an old Lease
	r.alive("mortal-2", "mortal-3")
	t.Log("one silent, but its Lease is renewed: kept")
	time.Sleep(3 * time.Second)
	if diff := cmp.Diff(found, w.versions()); diff != "" {
		t.Errorf("written (-before +after):\n%s", diff)
	}
	w.waitFor("web", good...)

	if now := w.versionsOfPods(); !slices.Equal(pods, now) {
		t.Error("pods were written")
	}
}

// generations adds up how often the slices of a Service were written.
func (w *cluster) generations(svc string) int {
	w.Helper()
	var list discoveryv1.EndpointSliceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: svc}); err != nil {
		w.Fatal(err)
	}
	sum := 0
	for i := range list.Items {
		sum += int(list.Items[i].Generation)
	}
	return sum
}

// versionsOfPods has the resource version of each pod.
func (w *cluster) versionsOfPods() []string {
	w.Helper()
	var list corev1.PodList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	var out []string
	for i := range list.Items {
		out = append(out, fmt.Sprintf("%s %s", list.Items[i].Name, list.Items[i].ResourceVersion))
	}
	slices.SortFunc(out, strings.Compare)
	return out
}
