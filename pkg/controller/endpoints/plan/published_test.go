package plan

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// TestWaitingPodIsPublished: as if it were ready, if somebody opens its gate; and
// leaves when it no longer is all that it lacks.
func TestWaitingPodIsPublished(t *testing.T) {
	for _, tells := range []bool{true, false} {
		w := newWorld(service()).nodes(twoNodes).pods(pod(1, waitsForGate), pod(2))
		w.TellsPods = tells
		w.sync(t, bothKinds)
		if got := w.usable(t, "uid-1"); got != tells {
			t.Errorf("somebody opens the gate: %t; published as ready: %t", tells, got)
		}
		notReady(w.all[0])
		p := w.sync(t, bothKinds)
		if got := w.usable(t, "uid-1"); got {
			t.Error("it is still published when its containers are not ready")
		}
		if tells && p.Writes[0].Phase != Removals {
			t.Errorf("its removal is of phase %d", p.Writes[0].Phase)
		}
	}
}

// usable says whether the slices have a pod as one to send to, and holds that
// the Endpoints say the same.
func (w *world) usable(t *testing.T, uid types.UID) bool {
	t.Helper()
	inSlice, inEndpoints := false, false
	for _, s := range w.Slices {
		for _, e := range s.Endpoints {
			inSlice = inSlice || e.TargetRef.UID == uid && *e.Conditions.Ready && *e.Conditions.Serving
		}
	}
	for _, s := range w.Endpoints.Subsets {
		for _, a := range s.Addresses {
			inEndpoints = inEndpoints || a.TargetRef.UID == uid
		}
	}
	if inSlice != inEndpoints {
		t.Errorf("%s is usable in the slices: %t, in the Endpoints: %t", uid, inSlice, inEndpoints)
	}
	return inSlice
}

func TestPublishedIn(t *testing.T) {
	const uid = types.UID("uid-1")
	has := func(version string, family discoveryv1.AddressType, ready bool, change ...func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: "s-" + version, ResourceVersion: version, Labels: map[string]string{discoveryv1.LabelManagedBy: SliceManager}},
			AddressType: family,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.2"}, TargetRef: &corev1.ObjectReference{UID: uid},
				Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		}
		for _, f := range change {
			f(s)
		}
		return s
	}
	dual := func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
	foreign := func(s *discoveryv1.EndpointSlice) { s.Labels[discoveryv1.LabelManagedBy] = "somebody" }
	v4, v6 := discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	both := func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::2"}) }
	type all = []*discoveryv1.EndpointSlice
	for _, tt := range []struct {
		name   string
		svc    *corev1.Service
		pod    *corev1.Pod
		slices all
		want   verdict.Standing
	}{
		{"nowhere", service(), pod(1), nil, verdict.Standing{Services: 1}},
		{"not as ready", service(), pod(1), all{has("5", v4, false)}, verdict.Standing{Services: 1}},
		{"by somebody else", service(), pod(1), all{has("5", v4, true, foreign)}, verdict.Standing{Services: 1}},
		{"once", service(), pod(1), all{has("5", v4, true)}, verdict.Standing{Services: 1, Published: 1, Version: 5}},
		{"while it moves", service(), pod(1), all{has("9", v4, true), has("10", v4, true)}, verdict.Standing{Services: 1, Published: 1, Version: 10}},
		{"in one family of two", service(dual), pod(1, both), all{has("5", v4, true)}, verdict.Standing{Services: 1, Version: 5}},
		{"in both", service(dual), pod(1, both), all{has("5", v4, true), has("3", v6, true)}, verdict.Standing{Services: 1, Published: 1, Version: 5}},
		{"in the one that it has", service(dual), pod(1), all{has("5", v4, true)}, verdict.Standing{Services: 1, Published: 1, Version: 5}},
		{"there is no place", service(func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }), pod(1), nil, verdict.Standing{}},
		{"no number", service(), pod(1), all{has("abc", v4, true)}, verdict.Standing{Services: 1, Published: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got verdict.Standing
			PublishedIn(tt.slices, map[types.UID]bool{uid: true}).Add(&got, tt.svc, tt.pod)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("standing (-want +got):\n%s", diff)
			}
		})
	}
}
