package endpoints

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func zoneNode(name, zone, cpu string, change ...func(*corev1.Node)) *corev1.Node {
	n := nodeThatIs(name, corev1.ConditionTrue, time.Unix(1, 0))
	n.Labels = map[string]string{}
	if zone != "" {
		n.Labels[corev1.LabelTopologyZone] = zone
	}
	if cpu != "" {
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Gi")}
	}
	for _, f := range change {
		f(n)
	}
	return n
}

func withLabel(name string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[name] = "" }
}

func unready(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }

// TestZoneCPU: which nodes count, and that each change of that, and only that,
// has the Services planned that want hints by zone.
func TestZoneCPU(t *testing.T) {
	now := time.Unix(1000, 0)
	x := newIndex()
	hinted := serviceOver("hinted")
	hinted.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
	x.setService(hinted)
	x.setService(serviceOver("plain"))
	hintedKey := key{Namespace: "ns", Name: "hinted"}
	set := func(n *corev1.Node) func() affected {
		stripped, err := stripNode(n)
		if err != nil {
			t.Fatal(err)
		}
		return func() affected { return x.setNode(stripped.(*corev1.Node), now) }
	}
	remove := func(name string) func() affected { return func() affected { return x.deleteNode(name) } }
	for _, step := range []struct {
		name    string
		change  func() affected
		want    map[string]int64
		planned bool
	}{
		{"a node", set(zoneNode("1", "a", "1500m")), map[string]int64{"a": 1500}, true},
		{"another of its zone", set(zoneNode("2", "a", "2")), map[string]int64{"a": 3500}, true},
		{"nothing new", set(zoneNode("2", "a", "2")), map[string]int64{"a": 3500}, false},
		{"another zone", set(zoneNode("3", "b", "4")), map[string]int64{"a": 3500, "b": 4000}, true},
		{"one that is not ready", set(zoneNode("4", "", "", unready)), map[string]int64{"a": 3500, "b": 4000}, false},
		{"the control plane", set(zoneNode("5", "", "", withLabel(labelControlPlane))), map[string]int64{"a": 3500, "b": 4000}, false},
		{"as it was called", set(zoneNode("6", "c", "1", withLabel(labelMaster))), map[string]int64{"a": 3500, "b": 4000}, false},
		{"one is ready, and has no zone", set(zoneNode("4", "", "1")), nil, true},
		{"it learns its zone", set(zoneNode("4", "b", "1")), map[string]int64{"a": 3500, "b": 5000}, true},
		{"and grows", set(zoneNode("4", "b", "2")), map[string]int64{"a": 3500, "b": 6000}, true},
		{"no CPU", set(zoneNode("4", "b", "")), nil, true},
		{"it goes", remove("4"), map[string]int64{"a": 3500, "b": 4000}, true},
		{"a zone goes", remove("3"), map[string]int64{"a": 3500}, true},
		{"who knows it?", remove("3"), map[string]int64{"a": 3500}, false},
	} {
		a := step.change()
		in, _ := x.input(hintedKey, now)
		if !maps.Equal(in.ZoneCPU, step.want) || (in.ZoneCPU == nil) != (step.want == nil) {
			t.Errorf("%s: %v, want %v", step.name, in.ZoneCPU, step.want)
		}
		if planned := slices.Contains(a.keys, hintedKey); planned != step.planned || len(a.keys) > 1 {
			t.Errorf("%s: planned %v", step.name, a.keys)
		}
	}
	in, _ := x.input(key{Namespace: "ns", Name: "plain"}, now)
	x.deleteService(hintedKey)
	if in.ZoneCPU != nil || len(x.byZone) != 0 {
		t.Errorf("nobody asked for %v; left are %v", in.ZoneCPU, x.byZone)
	}
}

// TestHintsFollowTheNodes: they come, go, with an Event that says why, and come
// back, without any change of the Service or its pods.
func TestHintsFollowTheNodes(t *testing.T) {
	inBubble(t, nil, func(b *bench) {
		for i, name := range []string{"node-a", "node-b"} {
			b.tell(zoneNode(name, name[5:], "1"), false)
			p := benchPod(i, 1, true)
			p.Spec.NodeName = name
			b.tell(p, false)
		}
		b.changed(benchService(), func(s *corev1.Service) {
			s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
		})
		hints := func() map[string]string {
			time.Sleep(time.Second)
			var list discoveryv1.EndpointSliceList
			if err := b.List(b.Context(), &list); err != nil {
				b.Fatal(err)
			}
			out := map[string]string{}
			for _, s := range list.Items {
				for _, e := range s.Endpoints {
					if e.Hints != nil {
						out[e.TargetRef.Name] = e.Hints.ForZones[0].Name
					}
				}
			}
			return out
		}
		all := map[string]string{"pod-0": "a", "pod-1": "b"}
		if diff := cmp.Diff(all, hints()); diff != "" {
			t.Errorf("hints (-want +got):\n%s", diff)
		}
		b.tell(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-c"}, Status: zoneNode("", "", "1").Status}, false)
		if got := hints(); len(got) != 0 {
			t.Errorf("with a node that has no zone there are hints: %v", got)
		}
		const why = "TopologyAwareHintsDisabled: Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4"
		if n := len(slices.DeleteFunc(b.said(), func(s string) bool { return s != why })); n != 1 {
			t.Errorf("said %d times why there are none: %q", n, b.said())
		}
		b.tell(zoneNode("node-c", "b", "1"), false)
		if got := hints(); len(got) != 0 {
			t.Errorf("one endpoint cannot do for a third of the CPUs and one for the rest: %v", got)
		}
		b.tell(zoneNode("node-c", "b", "1", unready), false)
		if diff := cmp.Diff(all, hints()); diff != "" {
			t.Errorf("hints, at last (-want +got):\n%s", diff)
		}
	})
}
