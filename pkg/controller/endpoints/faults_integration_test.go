//go:build integration

package endpoints_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fault is a scene in which kube-controller-manager publishes what is wrong.
type fault struct {
	name string
	// arrange makes the Service "web" and its pods, of which this is then
	// published, right or wrong, by both.
	arrange func(w *cluster, f *actors)
	before  []string
	// happens is what the stock controllers overlook.
	happens func(w *cluster, f *actors)
	// right is what should be published then, stock what they leave for long.
	right, stock []string
}

// actors are the objects of a scene.
type actors struct {
	svc       *corev1.Service
	pod, next *corev1.Pod
	node      string
}

// patience is how long the stock controllers may take. What they do at all, they
// do here in milliseconds.
const patience = 4 * time.Second

// settle is until they have looked again at what they wrote themselves, as they
// may do after a second: that would hide that they overlook what happens next.
const settle = 3 * time.Second

// retries is how long they are left, after settle, to try in vain. They wait twice
// as long after each failure, 8 s after the fourth: the next try is then further
// away than patience.
const retries = 5 * time.Second

var faults = []fault{
	{
		name:    "E1", // kubernetes/kubernetes#118376
		arrange: oneReadyPod,
		before:  both("10.1.0.2", "zone-e"),
		happens: func(w *cluster, f *actors) { w.Merge(f.svc, `{"spec":{"selector":null}}`) },
		right:   nil, stock: both("10.1.0.2", "zone-e"),
	}, {
		name:    "E2",
		arrange: oneReadyPod,
		before:  both("10.1.0.2", "zone-e"),
		happens: func(w *cluster, f *actors) {
			w.Merge(f.svc, `{"spec":{"type":"ExternalName","externalName":"example.com","clusterIP":null,"clusterIPs":null}}`)
		},
		right: nil, stock: both("10.1.0.2", "zone-e"),
	}, {
		name: "E3", // kubernetes/kubernetes#107927
		arrange: func(w *cluster, f *actors) {
			f.svc = w.service("web")
			f.pod = w.pod("web", 1, f.node)
		},
		before:  []string{"slice without endpoints", "endpoints 10.1.0.2 ready"},
		happens: func(w *cluster, f *actors) { time.Sleep(retries); w.node(f.node, "zone-e") },
		right:   both("10.1.0.2", "zone-e"),
		stock:   []string{"slice without endpoints", "endpoints 10.1.0.2 ready"},
	}, {
		name: "E4", // kubernetes/kubernetes#123401
		arrange: func(w *cluster, f *actors) {
			w.node(f.node, "")
			f.svc = w.service("web")
			f.pod = w.pod("web", 1, f.node)
		},
		before: []string{"slice 10.1.0.2 ready serving", "endpoints 10.1.0.2 ready"},
		happens: func(w *cluster, f *actors) {
			w.Merge(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: f.node}}, `{"metadata":{"labels":{"topology.kubernetes.io/zone":"zone-e"}}}`)
		},
		right: both("10.1.0.2", "zone-e"),
		stock: []string{"slice 10.1.0.2 ready serving", "endpoints 10.1.0.2 ready"},
	}, {
		name: "E5",
		arrange: func(w *cluster, f *actors) {
			w.node(f.node, "zone-e")
			f.svc = w.service("web", func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true })
			f.pod = w.pod("web", 1, f.node)
			w.status(f.pod, false, "10.1.0.2")
		},
		before: []string{"slice 10.1.0.2 ready zone-e", "endpoints 10.1.0.2 ready"},
		happens: func(w *cluster, f *actors) {
			if err := w.Status().Patch(w.Context(), f.pod, client.RawPatch(types.MergePatchType, []byte(`{"status":{"phase":"Failed"}}`))); err != nil {
				w.Fatal(err)
			}
		},
		right: []string{"slice without endpoints", "endpoints without addresses"},
		stock: []string{"slice 10.1.0.2 ready zone-e", "endpoints 10.1.0.2 ready"},
	}, {
		name:    "E9", // kubernetes/kubernetes#135266
		arrange: oneReadyPod,
		before:  both("10.1.0.2", "zone-e"),
		happens: func(w *cluster, f *actors) {
			w.Remove(f.pod) // no kubelet ends it
			f.next = w.pod("web", 2, f.node)
			const sameAddress = `{"status":{"podIP":"10.1.0.2","podIPs":[{"ip":"10.1.0.2"}]}}`
			if err := w.Status().Patch(w.Context(), f.next, client.RawPatch(types.MergePatchType, []byte(sameAddress))); err != nil {
				w.Fatal(err)
			}
		},
		right: both("10.1.0.2", "zone-e"),
		stock: append(both("10.1.0.2", "zone-e"), "slice 10.1.0.2 serving terminating zone-e"),
	},
}

func oneReadyPod(w *cluster, f *actors) {
	w.node(f.node, "zone-e")
	f.svc = w.service("web")
	f.pod = w.pod("web", 1, f.node)
}

// TestFaultsOfTheStockControllers plays each scene before kube-controller-manager,
// which gets it wrong, and before this controller, which must not. Should the
// former fail here one day, it has been mended: strike the scene.
func TestFaultsOfTheStockControllers(t *testing.T) {
	t.Run("stock", func(t *testing.T) {
		stock, err := server.StartStock("endpoints-controller", "endpointslice-controller")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := stock.Stop(); err != nil {
				t.Error(err)
			}
		})
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				w := f.play(t)
				time.Sleep(patience)
				if diff := cmp.Diff(sorted(f.stock), w.published("web")); diff != "" {
					t.Errorf("the stock controllers do not publish what they are known to (-known +got):\n%s", diff)
				}
			})
		}
	})
	t.Run("ours", func(t *testing.T) {
		newCluster(t).start(nil)
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				w := f.play(t)
				began := time.Now()
				w.waitFor("web", f.right...)
				t.Logf("right after %v", time.Since(began).Round(time.Millisecond))
			})
		}
	})
}

// play plays the scene.
func (f *fault) play(t *testing.T) *cluster {
	t.Helper()
	w := newCluster(t)
	a := &actors{node: "node-" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))}
	f.arrange(w, a)
	w.waitFor("web", f.before...)
	time.Sleep(settle)
	f.happens(w, a)
	return w
}

func sorted(lines []string) []string {
	return append([]string{}, slices.Sorted(slices.Values(lines))...)
}
