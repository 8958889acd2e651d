package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/endpointslice/topologycache"
)

// zoneWorld has a node per zone, and a Service that wants hints by zone.
func zoneWorld(cpu map[string]int64) *world {
	w := newWorld(service(func(s *corev1.Service) {
		s.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
	}))
	for zone := range cpu {
		w.Zones["node-"+zone] = zone
	}
	w.ZoneCPU = cpu
	return w
}

func (w *world) podIn(n int, zone string, change ...func(*corev1.Pod)) {
	w.all = append(w.all, pod(n, append(change, func(p *corev1.Pod) { p.Spec.NodeName = "node-" + zone })...))
}

// hinted counts the endpoints that are ready by the zone of their hint.
func (w *world) hinted(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, s := range w.ours() {
		for _, e := range s.Endpoints {
			switch {
			case e.Hints == nil && *e.Conditions.Ready:
				out[""]++
			case e.Hints != nil && !*e.Conditions.Ready:
				t.Fatalf("%s is not ready and has a hint", e.TargetRef.Name)
			case e.Hints != nil:
				out[e.Hints.ForZones[0].Name]++
			}
		}
	}
	return out
}

func TestZoneHints(t *testing.T) {
	equal := map[string]int64{"a": 4000, "b": 4000}
	for _, tt := range []struct {
		name string
		cpu  map[string]int64
		pods string // the zone of each
		want map[string]int
		why  string
	}{
		{"as they are", equal, "aabb", map[string]int{"a": 2, "b": 2}, ""},
		{"one is given away", equal, "aaab", map[string]int{"a": 2, "b": 2}, ""},
		{"all in one zone", equal, "aaaa", map[string]int{"a": 2, "b": 2}, ""},
		{"by CPUs", map[string]int64{"a": 3000, "b": 1000}, "aabbaabb", map[string]int{"a": 6, "b": 2}, ""},
		{"a zone without nodes gives all", map[string]int64{"a": 1000, "b": 1000}, "aacc", map[string]int{"a": 2, "b": 2}, ""},
		{"an overload that can be borne", equal, "aaaabbbbb", map[string]int{"a": 4, "b": 5}, ""},
		{"too few endpoints", map[string]int64{"a": 1, "b": 1, "c": 1}, "ab", map[string]int{"": 2},
			"Insufficient number of endpoints (2 endpoints, 3 zones), addressType: IPv4"},
		{"too uneven", equal, "aab", map[string]int{"": 3},
			"Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (3 endpoints, 2 zones), addressType: IPv4"},
		{"one zone", map[string]int64{"a": 1000}, "aa", map[string]int{"": 2}, "Nodes only ready in one zone, addressType: IPv4"},
		{"nodes not known", nil, "aa", map[string]int{"": 2},
			"Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4"},
		{"an endpoint without a zone", equal, "aabb-b", map[string]int{"": 6}, "One or more endpoints do not have a zone specified, addressType: IPv4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := zoneWorld(tt.cpu)
			for _, zone := range tt.pods {
				w.Zones["node-"+string(zone)] = strings.Trim(string(zone), "-")
			}
			for i, zone := range tt.pods {
				w.podIn(i, string(zone))
			}
			p := w.sync(t, bothKinds)
			if diff := cmp.Diff(tt.want, w.hinted(t)); diff != "" {
				t.Errorf("endpoints by hint (-want +got):\n%s", diff)
			}
			var why []string
			for _, u := range p.Unhinted {
				why = append(why, u.Message)
			}
			if strings.Join(why, ";") != tt.why {
				t.Errorf("why no hints: %q, want %q", why, tt.why)
			}
			delete(w.Service.Annotations, corev1.AnnotationTopologyMode)
			w.sync(t, bothKinds)
			if got := w.hinted(t); got[""] != len(tt.pods) {
				t.Errorf("nobody wants hints any more, and there are %v", got)
			}
		})
	}
}

// TestTheOldAnnotationWins, as upstream has it, and either wins over the field.
func TestTheOldAnnotationWins(t *testing.T) {
	for _, tt := range []struct {
		annotations map[string]string
		want        map[string]int
	}{
		{map[string]string{corev1.DeprecatedAnnotationTopologyAwareHints: "Disabled", corev1.AnnotationTopologyMode: "Auto"}, map[string]int{"a": 4}},
		{map[string]string{corev1.DeprecatedAnnotationTopologyAwareHints: "auto", corev1.AnnotationTopologyMode: "Disabled"}, map[string]int{"a": 2, "b": 2}},
	} {
		w := zoneWorld(map[string]int64{"a": 1, "b": 1})
		w.Service.Annotations, w.Service.Spec.TrafficDistribution = tt.annotations, new(corev1.ServiceTrafficDistributionPreferClose)
		for i := range 4 {
			w.podIn(i, "a")
		}
		w.sync(t, bothKinds)
		if diff := cmp.Diff(tt.want, w.hinted(t)); diff != "" {
			t.Errorf("%v: endpoints by hint (-want +got):\n%s", tt.annotations, diff)
		}
	}
}

// TestZoneHintsAgainstUpstream compares with upstream's topologycache on random
// clusters: whether there are hints, and if not, why; and holds what upstream
// does not always: that no zone has less than its minimum, and that planning again
// changes nothing (world.sync).
func TestZoneHintsAgainstUpstream(t *testing.T) {
	hinted, unhinted, overshot := 0, map[string]int{}, 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 9))
		cpu := map[string]int64{}
		for i := range 1 + rng.IntN(4) {
			cpu[fmt.Sprint("z", i)] = 1000 * int64(1+rng.IntN(8))
		}
		w := zoneWorld(cpu)
		opt := Options{EndpointSlices: true, MaxEndpointsPerSlice: 1 + rng.IntN(8)}
		up := newUpstream(t, opt.MaxEndpointsPerSlice)
		up.topo.SetNodes(logr.Discard(), nodesWith(cpu))
		zones := slices.Sorted(maps.Keys(cpu))
		if rng.IntN(5) == 0 {
			zones = append(zones, "unserved")
			w.Zones["node-unserved"] = "unserved"
		}
		for i := range rng.IntN(40) {
			w.podIn(i, zones[rng.IntN(len(zones))], func(p *corev1.Pod) {
				if rng.IntN(6) == 0 {
					notReady(p)
				}
			})
		}
		theirs, _ := up.reconcile(t, w.input())
		p := w.sync(t, opt)
		mine, why := w.hinted(t), ""
		for _, u := range p.Unhinted {
			why = u.Message
		}
		if len(cpu) == 1 {
			// Upstream has a word for it and says another.
			why = strings.Replace(why, topologycache.NodesReadyInOneZoneOnly, topologycache.InsufficientNodeInfo, 1)
		}
		event := <-up.events.Events
		if upWhy, disabled := strings.CutPrefix(event, "Warning TopologyAwareHintsDisabled "); disabled {
			if upWhy != why || mine[""] != total(mine) {
				t.Fatalf("seed %d: no hints, because %q; ours %v, because %q", seed, upWhy, mine, why)
			}
			unhinted[strings.SplitN(upWhy, " (", 2)[0]]++
			continue
		}
		if why != "" {
			t.Fatalf("seed %d: upstream says %q, ours that there are no hints: %s", seed, event, why)
		}
		hinted++
		q, _ := quotas(cpu, total(mine))
		for zone, n := range mine {
			if n < q[zone].minimum || q[zone].minimum == 0 {
				t.Fatalf("seed %d: %d endpoints for zone %q of %+v", seed, n, zone, q)
			}
		}
		upstreamWorld := world{Input: Input{Slices: theirs}}
		for zone, n := range upstreamWorld.hinted(t) {
			if n < q[zone].minimum || q[zone].minimum == 0 {
				overshot++
				break
			}
		}
	}
	t.Logf("%d with hints (of which upstream leaves %d out of bounds), without: %v", hinted, overshot, unhinted)
	if hinted < 50 || len(unhinted) < 3 {
		t.Errorf("random clusters are not random: %d with hints, without: %v", hinted, unhinted)
	}
}

func total(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}

func nodesWith(cpu map[string]int64) []*corev1.Node {
	var out []*corev1.Node
	for zone, c := range cpu {
		out = append(out, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "node-" + zone, Labels: map[string]string{corev1.LabelTopologyZone: zone}},
			Status: corev1.NodeStatus{
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(c, resource.DecimalSI)},
			},
		})
	}
	return out
}

// TestStaleHints: hints that others wrote are put right, also on endpoints that
// are not ready, where upstream leaves them.
func TestStaleHints(t *testing.T) {
	for _, wish := range []*string{nil, new(corev1.ServiceTrafficDistributionPreferSameNode)} {
		w := newWorld(service(func(s *corev1.Service) { s.Spec.TrafficDistribution = wish })).
			pods(pod(0), pod(1, notReady)).nodes(map[string]string{"node-1": "a"})
		w.sync(t, bothKinds)
		want := describe(w.Slices[0].Endpoints)
		for i := range w.Slices[0].Endpoints {
			w.Slices[0].Endpoints[i].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "moon"}}}
		}
		w.sync(t, bothKinds)
		if got := describe(w.Slices[0].Endpoints); got != want {
			t.Errorf("hints (-want +got):\n%s", cmp.Diff(want, got))
		}
	}
}
