package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var endpointsOnly = Options{Endpoints: true}

func TestEndpointsObject(t *testing.T) {
	svc := service(func(s *corev1.Service) {
		s.Spec.ClusterIP = corev1.ClusterIPNone
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "admin", Protocol: corev1.ProtocolTCP, Port: 81, TargetPort: intstr.FromInt32(8081)})
	})
	w := newWorld(svc).pods(pod(3, notReady), pod(2), pod(1, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "web-1", "svc" }), pod(4, terminating))
	p := w.sync(t, endpointsOnly)
	address := func(n int, host string) corev1.EndpointAddress {
		return corev1.EndpointAddress{IP: fmt.Sprint("10.0.0.", n+1), Hostname: host, NodeName: new("node-1"), TargetRef: targetRef(pod(n))}
	}
	want := []Write{{Create, Additions, &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Name: "svc", Namespace: "ns",
			Labels:      map[string]string{"team": "blue", "endpoints.kubernetes.io/managed-by": "endpoint-controller", "service.kubernetes.io/headless": ""},
			Annotations: map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "2030-01-01T00:02:00Z"},
		},
		Subsets: []corev1.EndpointSubset{{
			Addresses:         []corev1.EndpointAddress{address(1, "web-1"), address(2, "")},
			NotReadyAddresses: []corev1.EndpointAddress{address(3, "")},
			Ports:             []corev1.EndpointPort{{Name: "admin", Port: 8081, Protocol: "TCP"}, {Name: "http", Port: 8080, Protocol: "TCP"}},
		}},
	}}}
	if diff := cmp.Diff(want, p.Writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// TestEndpointsOfTheStockController: the same in its order of ports, subsets and
// addresses is no reason to write.
func TestEndpointsOfTheStockController(t *testing.T) {
	w := newWorld(service(func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "admin", Protocol: corev1.ProtocolTCP, Port: 81, TargetPort: intstr.FromString("admin")})
	})).pods(pod(1), pod(2), pod(3, func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "admin", Protocol: "TCP", ContainerPort: 9}}
	}))
	w.sync(t, endpointsOnly)
	if n := len(w.Endpoints.Subsets); n != 2 {
		t.Fatalf("%d subsets, want 2", n)
	}
	slices.Reverse(w.Endpoints.Subsets)
	for i := range w.Endpoints.Subsets {
		slices.Reverse(w.Endpoints.Subsets[i].Addresses)
		slices.Reverse(w.Endpoints.Subsets[i].Ports)
	}
	w.Endpoints.Subsets[0].Addresses[0].TargetRef.ResourceVersion = "5"
	if p := Make(w.input(), endpointsOnly); len(p.Writes) != 0 {
		t.Errorf("%d writes: %+v", len(p.Writes), p.Writes[0].Object)
	}
}

func TestWhoseEndpointsAreTouched(t *testing.T) {
	noSelector := service(func(s *corev1.Service) { s.Spec.Selector = nil })
	managed := func(subsets ...corev1.EndpointSubset) *corev1.Endpoints {
		return &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "svc", Namespace: "ns", Labels: endpointsLabels(service())}, Subsets: subsets}
	}
	ofPod := corev1.EndpointSubset{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.2", TargetRef: targetRef(pod(1))}}}
	byHand := corev1.EndpointSubset{NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}}
	lock := managed(ofPod)
	lock.Annotations = map[string]string{"control-plane.alpha.kubernetes.io/leader": "{}"}
	theirs := managed(ofPod)
	delete(theirs.Labels, EndpointsManagedBy)
	for _, tt := range []struct {
		name      string
		plan      Plan
		isDeleted bool
	}{
		{"selector removed", Make(Input{Service: noSelector, Endpoints: managed(ofPod)}, endpointsOnly), true},
		{"selector removed, empty", Make(Input{Service: noSelector, Endpoints: managed()}, endpointsOnly), true},
		{"selector removed, then edited by hand", Make(Input{Service: noSelector, Endpoints: managed(ofPod, byHand)}, endpointsOnly), false},
		{"never ours", Make(Input{Service: noSelector, Endpoints: theirs}, endpointsOnly), false},
		{"no selector, a lock", Make(Input{Service: noSelector, Endpoints: lock}, endpointsOnly), false},
		{"no Service", MakeForDeleted(managed(ofPod)), true},
		{"no Service, a lock", MakeForDeleted(lock), false},
		{"neither", MakeForDeleted(nil), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := len(tt.plan.Writes) == 1 && tt.plan.Writes[0].Verb == Delete; got != tt.isDeleted || len(tt.plan.Writes) > 1 {
				t.Errorf("writes are %+v, deleted should be %v", tt.plan.Writes, tt.isDeleted)
			}
		})
	}
}

func TestTruncation(t *testing.T) {
	for _, tt := range []struct {
		name            string
		ready, notReady int
		want            []int // ready, not ready
		cut             bool
	}{
		{"just fits", 900, 100, []int{900, 100}, false},
		{"ready ones first", 900, 300, []int{900, 100}, true},
		{"only ready ones", 1200, 300, []int{1000, 0}, true},
		{"no ready ones", 0, 1001, []int{0, 1000}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }))
			w.all = manyPods(tt.ready + tt.notReady)
			for i, p := range w.all {
				// Two kinds of pods, so that there are two subsets to share the room.
				p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", Protocol: "TCP", ContainerPort: int32(1 + i%2)}}
				if i >= tt.ready {
					notReady(p)
				}
			}
			p := w.sync(t, endpointsOnly)
			got := []int{0, 0}
			for _, s := range w.Endpoints.Subsets {
				got[0] += len(s.Addresses)
				got[1] += len(s.NotReadyAddresses)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ready, not ready (-want +got):\n%s", diff)
			}
			if mark := w.Endpoints.Annotations[corev1.EndpointsOverCapacity]; (mark == "truncated") != tt.cut || (len(p.Problems) > 0) != tt.cut {
				t.Errorf("annotation is %q, problems %v", mark, p.Problems)
			}
			w.all = w.all[:1]
			w.sync(t, endpointsOnly)
			if _, ok := w.Endpoints.Annotations[corev1.EndpointsOverCapacity]; ok {
				t.Error("the annotation stays when all fit again")
			}
		})
	}
}

// TestRepackIsCanonical: whatever the order, and however addresses are spread
// over subsets, repacking gives one form, and repacking that changes nothing.
func TestRepackIsCanonical(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var flat []corev1.EndpointSubset // one address and one port each
		for range 1 + rng.IntN(30) {
			n := rng.IntN(6)
			a := corev1.EndpointAddress{IP: fmt.Sprint("10.0.0.", n), TargetRef: &corev1.ObjectReference{UID: types.UID(fmt.Sprint(rng.IntN(2)))}}
			s := corev1.EndpointSubset{Addresses: []corev1.EndpointAddress{a}}
			if n%2 == 0 {
				s = corev1.EndpointSubset{NotReadyAddresses: []corev1.EndpointAddress{a}}
			}
			if port := rng.IntN(4); port > 0 {
				s.Ports = []corev1.EndpointPort{{Name: fmt.Sprint("p", port), Port: int32(port), Protocol: "TCP"}}
			}
			flat = append(flat, s)
		}
		want := repack(flat)
		if again := repack(want); !equalSubsets(want, again) {
			t.Fatalf("seed %d: repacking twice differs:\n%s", seed, cmp.Diff(want, again))
		}
		rng.Shuffle(len(flat), func(i, j int) { flat[i], flat[j] = flat[j], flat[i] })
		if got := repack(flat); !equalSubsets(want, got) {
			t.Fatalf("seed %d: another order gives another form:\n%s", seed, cmp.Diff(want, got))
		}
		if diff := cmp.Diff(flatten(flat), flatten(want)); diff != "" {
			t.Fatalf("seed %d: repacking lost or made something:\n%s", seed, diff)
		}
		seen := map[string]bool{}
		for _, s := range want {
			text := fmt.Sprint(s.Addresses, s.NotReadyAddresses)
			if seen[text] {
				t.Fatalf("seed %d: two subsets have the same addresses", seed)
			}
			seen[text] = true
		}
	}
}

func flatten(subsets []corev1.EndpointSubset) map[string]bool {
	out := map[string]bool{}
	add := func(state string, ports []corev1.EndpointPort, addrs []corev1.EndpointAddress) {
		for _, a := range addrs {
			// An address without ports is no more than one that has some as well.
			out[fmt.Sprint(a.IP, a.TargetRef.UID)] = true
			for _, p := range ports {
				out[fmt.Sprint(state, a.IP, a.TargetRef.UID, p)] = true
			}
		}
	}
	for _, s := range subsets {
		add("ready", s.Ports, s.Addresses)
		add("not", s.Ports, s.NotReadyAddresses)
	}
	return out
}
