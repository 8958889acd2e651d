//go:build integration

package loadbalancer_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

const thousand = 1000

// makeThousand makes 1,000 Services.
func (w *cluster) makeThousand() {
	w.Helper()
	var g errgroup.Group
	g.SetLimit(8)
	for i := range thousand {
		g.Go(func() error { return w.Create(w.Context(), w.service(fmt.Sprintf("s%03d", i))) })
	}
	if err := g.Wait(); err != nil {
		w.Fatal(err)
	}
}

// settled waits until each of 1,000 Services has one address, and none is twice,
// and returns how long that took. It looks at a watch: to list them all the time
// would be most of the load.
func (w *cluster) settled(since time.Time, watched client.Reader) time.Duration {
	w.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		owners := w.owners(watched)
		for at, names := range owners {
			if len(names) > 1 {
				w.Fatalf("%v is given to %v", at, names)
			}
		}
		if len(owners) == thousand {
			return time.Since(since).Round(10 * time.Millisecond)
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d of %d addresses are given", len(owners), thousand)
		}
	}
}

// versions returns the version of each Service.
func (w *cluster) versions() map[string]string {
	w.Helper()
	var list corev1.ServiceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	out := map[string]string{}
	for i := range list.Items {
		out[list.Items[i].Name] = list.Items[i].ResourceVersion
	}
	return out
}

// TestThousandServices gives 1,000 addresses to as many Services at once, three
// times: when the pool comes, when the Services come, and when the leader does.
// Then the pool goes, and they keep them.
func TestThousandServices(t *testing.T) {
	w := newCluster(t)
	stop := w.start()
	watched, _ := w.StartCache(cache.Options{})
	w.makeThousand()
	began := time.Now()
	p := w.makePool(poolOf("p", "10.9.0.1-10.9.3.232"))
	t.Logf("1,000 Services that wait, and the pool comes: %v until the last one has its address", w.settled(began, watched))
	w.poolSays("p", "True Ready 1000/0")

	stop()
	before := w.versions()
	stop = w.start()
	w.makeService("late")
	w.says("late", "False PoolExhausted: no IPv4 address is free in LoadBalancerPool p")
	for name, version := range w.versions() {
		if was, is := before[name]; is && was != version {
			t.Errorf("the next leader has written to %s, of which nothing has changed", name)
		}
	}
	w.Remove(w.service("late"))

	began = time.Now()
	shrunk := p.DeepCopy()
	shrunk.Spec.Addresses = []string{"10.9.0.1-10.9.3.212"}
	if err := w.kinds.Patch(t.Context(), shrunk, client.MergeFrom(p)); err != nil {
		t.Fatal(err)
	}
	w.poolSays("p", "True Ready 980/0")
	kept := func() (n int) {
		var list corev1.ServiceList
		if err := w.List(t.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			for _, c := range list.Items[i].Status.Conditions {
				if c.Type == v1alpha1.ConditionAddressAssigned && c.Reason == v1alpha1.ReasonKept && c.Status == metav1.ConditionTrue {
					n++
				}
			}
		}
		return n
	}
	w.Eventually("20 Services say that they keep an address that no pool has", func() bool { return kept() == 20 })
	t.Logf("the pool shrinks by 20: %v until the last one says so; all addresses stay: %d", time.Since(began).Round(10*time.Millisecond), len(w.owners(w)))
	w.settled(began, watched)

	stop()
	var g errgroup.Group
	g.SetLimit(8)
	for i := range thousand {
		g.Go(func() error {
			svc := w.service(fmt.Sprintf("s%03d", i))
			return w.Status().Patch(t.Context(), svc, client.RawPatch("application/merge-patch+json", []byte(`{"status": {"loadBalancer": {"ingress": null}, "conditions": null}}`)))
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	whole := shrunk.DeepCopy()
	whole.Spec.Addresses = []string{"10.9.0.1-10.9.3.232"}
	if err := w.kinds.Patch(t.Context(), whole, client.MergeFrom(shrunk)); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	w.start()
	t.Logf("1,000 Services without an address, and the leader comes: %v, its caches included", w.settled(began, watched))
}

// TestTwoLeaders: two that write at once, as may be when one is cut off, never
// give an address twice for good.
func TestTwoLeaders(t *testing.T) {
	w := newCluster(t)
	w.makePool(poolOf("p", "10.9.0.1-10.9.3.232"))
	stop := w.start()
	w.start()
	var g errgroup.Group
	g.SetLimit(8)
	for i := range 100 {
		g.Go(func() error { return w.Create(w.Context(), w.service(fmt.Sprintf("s%03d", i))) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	stop()
	w.Eventually("each Service has an address of its own", func() bool {
		owners := w.owners(w)
		for _, names := range owners {
			if len(names) > 1 {
				return false
			}
		}
		return len(owners) == 100
	})
}
