package plan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// TestExplain: one reason for each pod, the best that its families have.
func TestExplain(t *testing.T) {
	dual := func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
	}
	sameAddress := func(p *corev1.Pod) {
		p.Status.PodIP, p.Status.PodIPs = pod(1).Status.PodIP, pod(1).Status.PodIPs
		p.CreationTimestamp = metav1.NewTime(epoch.Add(time.Hour))
	}
	marked := func(p *corev1.Pod) {
		notReady(p)
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue})
	}
	for _, tt := range []struct {
		name   string
		world  *world
		opt    Options
		change func(*world)
		want   map[string]verdict.Reason
		usable bool
	}{
		{"ready and not", newWorld(service()).pods(pod(1), pod(2, notReady)), bothKinds, nil,
			map[string]verdict.Reason{"pod-001": verdict.Ready, "pod-002": verdict.NotReady}, true},
		{"IPv4 only, of a Service of both families", newWorld(service(dual)).pods(pod(1)), bothKinds, nil,
			map[string]verdict.Reason{"pod-001": verdict.Ready}, true},
		{"the same, for who sees only Endpoints", newWorld(service(dual)).pods(pod(1)), Options{Endpoints: true}, nil,
			map[string]verdict.Reason{"pod-001": verdict.NoAddressOfFamily}, true},
		{"not ready, of a Service of both families", newWorld(service(dual)).pods(pod(1, notReady)), bothKinds, nil,
			map[string]verdict.Reason{"pod-001": verdict.NotReady}, false},
		{"an address that another pod has", newWorld(service()).pods(pod(1), pod(2, sameAddress)), bothKinds, nil,
			map[string]verdict.Reason{"pod-001": verdict.AddressTaken, "pod-002": verdict.Ready}, true},
		{"terminates and serves", newWorld(service()).pods(pod(1, terminating)), bothKinds, nil,
			map[string]verdict.Reason{"pod-001": verdict.ServesWhileTerminating}, true},
		{"marked while it was served", newWorld(service()).pods(pod(1)), bothKinds,
			func(w *world) { w.sync(t, bothKinds); marked(w.Pods[0]) },
			map[string]verdict.Reason{"pod-001": verdict.NodeSilent}, true},
		{"marked and its node is dead", newWorld(service()).pods(pod(1)), bothKinds,
			func(w *world) {
				w.sync(t, bothKinds)
				marked(w.Pods[0])
				w.Dead = map[string]bool{w.Pods[0].Spec.NodeName: true}
			},
			map[string]verdict.Reason{"pod-001": verdict.NotReady}, false},
		{"ready and its node is dead", newWorld(service()).pods(pod(1)), bothKinds,
			func(w *world) { w.Failed = map[string]string{w.Pods[0].Spec.NodeName: "silent for 4 s"} },
			map[string]verdict.Reason{"pod-001": verdict.NodeDead}, false},
		{"no room in the Endpoints", newWorld(service()).pods(pod(1), pod(2)), Options{Endpoints: true},
			func(w *world) {
				w.sync(t, Options{Endpoints: true})
				e := w.Endpoints.DeepCopy()
				e.Annotations = map[string]string{corev1.EndpointsOverCapacity: "truncated"}
				e.Subsets[0].Addresses = e.Subsets[0].Addresses[:1]
				w.Endpoints = e
			},
			map[string]verdict.Reason{"pod-001": verdict.Ready, "pod-002": verdict.Truncated}, true},
		{"node unknown", newWorld(service()).pods(pod(1)), bothKinds, func(w *world) { w.Zones = map[string]string{} },
			map[string]verdict.Reason{"pod-001": verdict.NodeUnknown}, false},
		{"no pods", newWorld(service()), bothKinds, nil, map[string]verdict.Reason{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.world
			for _, p := range w.all {
				w.Zones[p.Spec.NodeName] = ""
			}
			w.Input = w.input()
			if tt.change != nil {
				tt.change(w)
			}
			got := map[string]verdict.Reason{}
			for _, v := range Explain(w.Input, tt.opt) {
				got[v.Pod] = v.Reason
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if Usable(w.Input) != tt.usable {
				t.Errorf("Usable() = %t", !tt.usable)
			}
		})
	}
}
