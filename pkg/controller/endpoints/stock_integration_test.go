//go:build integration

package endpoints_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// versions returns the version of each EndpointSlice and Endpoints of the
// namespace.
func (w *cluster) versions() map[string]string {
	w.Helper()
	out := map[string]string{}
	var eps discoveryv1.EndpointSliceList
	var endpoints corev1.EndpointsList
	for _, list := range []client.ObjectList{&eps, &endpoints} {
		if err := w.List(w.Context(), list, client.InNamespace(w.Namespace)); err != nil {
			w.Fatal(err)
		}
	}
	for _, s := range eps.Items {
		out["slice "+s.Name] = s.ResourceVersion
	}
	for _, e := range endpoints.Items {
		out["endpoints "+e.Name] = e.ResourceVersion
	}
	return out
}

// TestChangeFromAndToTheStockControllers: what kube-controller-manager has
// published, Signpost finds right, and the other way round: neither writes.
func TestChangeFromAndToTheStockControllers(t *testing.T) {
	const n = 20
	prepare := func(w *cluster) {
		w.manyServices(n)
		w.service("named", func(s *corev1.Service) {
			s.Labels = map[string]string{"team": "blue"}
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "web", Port: 81, TargetPort: intstr.FromString("web")},
				corev1.ServicePort{Name: "admin", Port: 82, TargetPort: intstr.FromInt32(8082)})
			s.Spec.PublishNotReadyAddresses = true
			s.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameNode)
		})
		for i := range 7 {
			w.pod("named", i, "node-1", func(p *corev1.Pod) {
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: int32(8080 + i%3)}}
			})
		}
	}
	startStock := func() func() {
		stock, err := server.StartStock("endpoints-controller", "endpointslice-controller")
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := stock.Stop(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("from", func(t *testing.T) {
		w := newCluster(t)
		stop := startStock()
		prepare(w)
		w.waitForMany(n)
		w.waitStill()
		stop()
		before := w.versions()
		tm := w.start(nil)
		tm.quiet(t, n)
		if diff := cmp.Diff(before, w.versions()); diff != "" || len(before) < 2*n {
			t.Errorf("%d objects; versions (-before +after):\n%s", len(before), diff)
		}
	})
	t.Run("to", func(t *testing.T) {
		w := newCluster(t)
		tm := w.start(nil)
		prepare(w)
		w.waitForMany(n)
		tm.quiet(t, n)
		tm.stop()
		before := w.versions()
		stop := startStock()
		defer stop()
		w.service("last") // published when all before it were looked at
		w.waitFor("last", "slice without endpoints", "endpoints without addresses")
		w.waitStill()
		after := w.versions()
		for name := range maps.Clone(after) {
			if _, old := before[name]; !old {
				delete(after, name) // that Service's
			}
		}
		if diff := cmp.Diff(before, after); diff != "" || len(before) < 2*n {
			t.Errorf("%d objects; versions (-before +after):\n%s", len(before), diff)
		}
	})
}

// waitStill waits until nothing has been written for three seconds.
func (w *cluster) waitStill() {
	w.Helper()
	last, since := fmt.Sprint(w.versions()), time.Now()
	for deadline := time.Now().Add(time.Minute); time.Since(since) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		if now := fmt.Sprint(w.versions()); now != last {
			last, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			w.Fatal("writes go on")
		}
	}
}
