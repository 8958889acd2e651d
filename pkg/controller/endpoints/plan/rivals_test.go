package plan

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTwoPodsWithOneAddress: one of them has it, in both kinds, and it is said
// which has not.
func TestTwoPodsWithOneAddress(t *testing.T) {
	at := func(ips ...string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.PodIP, p.Status.PodIPs = ips[0], nil
			for _, ip := range ips {
				p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
			}
		}
	}
	made := func(minute int) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.NewTime(epoch.Add(time.Duration(minute) * time.Minute))
		}
	}
	finished := func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }
	onHost := func(p *corev1.Pod) { p.Spec.HostNetwork = true }
	const one = "10.0.0.1"
	for _, tt := range []struct {
		name string
		pods []*corev1.Pod
		// slices and endpoints are the pods by address.
		slices, endpoints []string
		problems          int
	}{
		{"the old one terminates",
			[]*corev1.Pod{pod(1, at(one), made(1), terminating), pod(2, at(one), made(2))},
			[]string{"10.0.0.1 pod-002"}, []string{"10.0.0.1 pod-002"}, 1},
		{"the new one terminates",
			[]*corev1.Pod{pod(1, at(one), made(1)), pod(2, at(one), made(2), terminating)},
			[]string{"10.0.0.1 pod-001"}, []string{"10.0.0.1 pod-001"}, 1},
		{"both run: the newest, even if it is not ready yet",
			[]*corev1.Pod{pod(1, at(one), made(1)), pod(2, at(one), made(2), notReady)},
			[]string{"10.0.0.1 pod-002"}, []string{"10.0.0.1 pod-002"}, 1},
		{"both terminate",
			[]*corev1.Pod{pod(1, at(one), made(2), terminating), pod(2, at(one), made(1), terminating)},
			[]string{"10.0.0.1 pod-001"}, nil, 1},
		{"made in the same second",
			[]*corev1.Pod{pod(1, at(one)), pod(2, at(one))},
			[]string{"10.0.0.1 pod-002"}, []string{"10.0.0.1 pod-002"}, 1},
		{"three",
			[]*corev1.Pod{pod(3, at(one), made(3)), pod(1, at(one), made(1)), pod(2, at(one), made(2))},
			[]string{"10.0.0.1 pod-003"}, []string{"10.0.0.1 pod-003"}, 2},
		{"a finished pod has no address",
			[]*corev1.Pod{pod(1, at(one), made(1)), pod(2, at(one), made(2), finished)},
			[]string{"10.0.0.1 pod-001"}, []string{"10.0.0.1 pod-001"}, 0},
		{"the host's address is everybody's",
			[]*corev1.Pod{pod(1, at(one), made(1), onHost), pod(2, at(one), made(2), onHost)},
			[]string{"10.0.0.1 pod-001", "10.0.0.1 pod-002"}, []string{"10.0.0.1 pod-001", "10.0.0.1 pod-002"}, 0},
		{"one of two families",
			[]*corev1.Pod{pod(1, at(one, "fd00::1"), made(1)), pod(2, at(one, "fd00::2"), made(2))},
			[]string{"10.0.0.1 pod-002", "fd00::1 pod-001", "fd00::2 pod-002"}, []string{"10.0.0.1 pod-002"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(service(func(s *corev1.Service) {
				s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
			})).pods(tt.pods...).nodes(map[string]string{"node-1": ""})
			p := w.sync(t, bothKinds)
			var got []string
			for _, line := range w.published() {
				f := strings.Fields(line)
				got = append(got, f[1]+" "+strings.Replace(f[len(f)-2], "pod=uid-", "pod-00", 1))
			}
			if diff := cmp.Diff(tt.slices, got); diff != "" {
				t.Errorf("slices (-want +got):\n%s", diff)
			}
			got = nil
			for _, line := range w.publishedEndpoints() {
				f := strings.Fields(line)
				got = append(got, f[0]+" "+strings.Replace(f[2], "uid-", "pod-00", 1))
			}
			if diff := cmp.Diff(tt.endpoints, got); diff != "" {
				t.Errorf("Endpoints (-want +got):\n%s", diff)
			}
			if len(p.Problems) != tt.problems {
				t.Errorf("%d problems, want %d: %v", len(p.Problems), tt.problems, p.Problems)
			}
		})
	}
}
