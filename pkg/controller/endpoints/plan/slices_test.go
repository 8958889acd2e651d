package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var twoNodes = map[string]string{"node-1": "zone-a", "node-2": ""}

var slicesOnly = Options{EndpointSlices: true, MaxEndpointsPerSlice: 100}

// TestSliceObject checks every field of a slice once.
func TestSliceObject(t *testing.T) {
	svc := service(func(s *corev1.Service) {
		s.Labels[corev1.IsHeadlessService] = "lie"
		s.Labels[discoveryv1.LabelManagedBy] = "lie"
		s.Spec.Ports[0].AppProtocol = new("h2c")
	})
	w := newWorld(svc).nodes(twoNodes).pods(
		pod(1, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "web-1", "svc" }))
	p := w.sync(t, slicesOnly)
	want := []Write{{Verb: Create, Phase: Additions, Object: &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "svc-",
			Namespace:    "ns",
			Labels: map[string]string{
				"team":                                   "blue",
				"kubernetes.io/service-name":             "svc",
				"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
			},
			Annotations: map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "2030-01-01T00:02:00Z"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Service", Name: "svc", UID: "svc-uid", Controller: new(true), BlockOwnerDeletion: new(true),
			}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{
			Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(8080)), AppProtocol: new("h2c"),
		}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{"10.0.0.2"},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			Hostname:   new("web-1"),
			NodeName:   new("node-1"),
			Zone:       new("zone-a"),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "pod-001", UID: "uid-1"},
		}},
	}}}
	if diff := cmp.Diff(want, p.Writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if want := epoch.Add(2 * time.Minute); !p.Trigger.Equal(want) {
		t.Errorf("trigger is %v, want %v", p.Trigger, want)
	}
}

func TestWhatIsPublished(t *testing.T) {
	dual := func(s *corev1.Service) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	}
	headless := func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }
	publish := func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
	named := func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }
	onNode := func(n string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = n } }
	port := func(proto corev1.Protocol, n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", Protocol: proto, ContainerPort: n}}
		}
	}
	initPort := func(policy *corev1.ContainerRestartPolicy) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "i", RestartPolicy: policy,
				Ports: []corev1.ContainerPort{{Name: "web", Protocol: corev1.ProtocolTCP, ContainerPort: 7}}}}
		}
	}
	for _, tt := range []struct {
		name     string
		svc      *corev1.Service
		pods     []*corev1.Pod
		slices   []string
		problems []string
	}{
		{name: "no pods: an empty slice", svc: service(), slices: []string{"IPv4 []"}},
		{name: "ready, not ready, terminating", svc: service(),
			pods: []*corev1.Pod{pod(1), pod(2, notReady), pod(3, terminating), pod(4, notReady, terminating)},
			slices: []string{"IPv4 [http/TCP:8080] 10.0.0.2=ready,serving 10.0.0.3= " +
				"10.0.0.4=serving,terminating 10.0.0.5=terminating"}},
		{name: "published though not ready", svc: service(publish),
			pods:   []*corev1.Pod{pod(2, notReady), pod(3, terminating)},
			slices: []string{"IPv4 [http/TCP:8080] 10.0.0.3=ready 10.0.0.4=ready,serving,terminating"}},
		{name: "finished, without address, of another family", svc: service(),
			pods: []*corev1.Pod{
				pod(1, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
				pod(2, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
				pod(3, func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", nil }),
				pod(4, func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "fd00::4", []corev1.PodIP{{IP: "fd00::4"}} })},
			slices: []string{"IPv4 []"}},
		{name: "a slice for each family", svc: service(dual),
			pods: []*corev1.Pod{pod(1, func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00:0::1"}) }), pod(2)},
			slices: []string{"IPv4 [http/TCP:8080] 10.0.0.2=ready,serving 10.0.0.3=ready,serving",
				"IPv6 [http/TCP:8080] fd00::1=ready,serving"}},
		{name: "headless without ports", svc: service(headless, func(s *corev1.Service) { s.Spec.Ports = nil }),
			pods: []*corev1.Pod{pod(1)}, slices: []string{"IPv4 [] headless 10.0.0.2=ready,serving"}},
		{name: "named port by name and protocol", svc: service(named),
			pods: []*corev1.Pod{pod(1, port(corev1.ProtocolTCP, 1)), pod(2, port(corev1.ProtocolTCP, 2)), pod(3, port(corev1.ProtocolUDP, 3)), pod(4)},
			slices: []string{"IPv4 [] 10.0.0.4=ready,serving 10.0.0.5=ready,serving",
				"IPv4 [http/TCP:1] 10.0.0.2=ready,serving", "IPv4 [http/TCP:2] 10.0.0.3=ready,serving"},
			problems: []string{"pods[pod-003].spec.containers.ports[web]", "pods[pod-004].spec.containers.ports[web]"}},
		{name: "named port of an init container only if it is restartable", svc: service(named),
			pods:     []*corev1.Pod{pod(1, initPort(new(corev1.ContainerRestartPolicyAlways))), pod(2, initPort(nil))},
			slices:   []string{"IPv4 [] 10.0.0.3=ready,serving", "IPv4 [http/TCP:7] 10.0.0.2=ready,serving"},
			problems: []string{"pods[pod-002].spec.containers.ports[web]"}},
		{name: "unknown node", svc: service(), pods: []*corev1.Pod{pod(1), pod(2, onNode("node-9"))},
			slices: []string{"IPv4 [http/TCP:8080] 10.0.0.2=ready,serving"}, problems: []string{"pods[pod-002].spec.nodeName"}},
		{name: "unknown node, but published though not ready", svc: service(publish), pods: []*corev1.Pod{pod(2, onNode("node-9"))},
			slices: []string{"IPv4 [http/TCP:8080] 10.0.0.3=ready,serving"}, problems: []string{"pods[pod-002].spec.nodeName"}},
		{name: "families missing, from the cluster IP", svc: service(func(s *corev1.Service) { s.Spec.IPFamilies, s.Spec.ClusterIP = nil, "fd00::10" }),
			slices: []string{"IPv6 []"}},
		{name: "families missing, headless", svc: service(headless, func(s *corev1.Service) { s.Spec.IPFamilies = nil }),
			slices: []string{"IPv4 [] headless", "IPv6 [] headless"}},
		{name: "being deleted: nothing new", svc: service(func(s *corev1.Service) { s.DeletionTimestamp = new(metav1.NewTime(epoch)) }), pods: []*corev1.Pod{pod(1)}},
		{name: "no selector", svc: service(func(s *corev1.Service) { s.Spec.Selector = nil }), pods: []*corev1.Pod{pod(1)}},
		{name: "external name", svc: service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), pods: []*corev1.Pod{pod(1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.svc).nodes(twoNodes).pods(tt.pods...)
			// A Service that is being deleted never gets what it lacks: so plan and
			// apply by hand where sync would expect to arrive.
			p := Make(w.input(), slicesOnly)
			w.apply(t, p)
			if diff := cmp.Diff(tt.slices, w.summary()); diff != "" {
				t.Errorf("slices (-want +got):\n%s", diff)
			}
			var problems []string
			for _, p := range p.Problems {
				problems = append(problems, p.Field)
			}
			if diff := cmp.Diff(tt.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// summary is a line per slice.
func (w *world) summary() []string {
	var out []string
	for _, s := range w.Slices {
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, fmt.Sprintf("%s/%s:%d", *p.Name, *p.Protocol, *p.Port))
		}
		line := fmt.Sprint(s.AddressType, " [", strings.Join(ports, ","), "]")
		if _, ok := s.Labels[corev1.IsHeadlessService]; ok {
			line += " headless"
		}
		for _, e := range s.Endpoints {
			var on []string
			for name, c := range map[string]*bool{"ready": e.Conditions.Ready, "serving": e.Conditions.Serving, "terminating": e.Conditions.Terminating} {
				if *c {
					on = append(on, name)
				}
			}
			slices.Sort(on)
			line += " " + e.Addresses[0] + "=" + strings.Join(on, ",")
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

func manyPods(n int) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range n {
		out = append(out, pod(i))
	}
	return out
}

// TestWritesOfAChange counts the requests that changes cost.
func TestWritesOfAChange(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		before                 int
		change                 func(w *world)
		create, update, delete int
		sizes                  []int
	}{
		{"from nothing", 0, func(w *world) { w.all = manyPods(250) }, 2, 1, 0, []int{100, 100, 50}},
		{"one more goes where it fits best", 250, func(w *world) { w.all = manyPods(251) }, 0, 1, 0, []int{100, 100, 51}},
		{"sixty more do not fit: one new slice, no update", 250, func(w *world) { w.all = manyPods(310) }, 1, 0, 0, []int{100, 100, 60, 50}},
		{"a replaced pod stays in its slice", 250, func(w *world) {
			w.all = append(manyPods(250)[1:], pod(260))
		}, 0, 1, 0, []int{100, 100, 50}},
		{"one readiness change", 250, func(w *world) { notReady(w.all[3]) }, 0, 1, 0, []int{100, 100, 50}},
		{"all gone: a placeholder under an old name", 250, func(w *world) { w.all = nil }, 0, 1, 2, []int{0}},
		{"a slice runs empty", 250, func(w *world) { w.all = w.all[100:] }, 0, 0, 1, []int{100, 50}},
		{"other port: each slice once", 250, func(w *world) {
			w.Service = service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromInt32(9090) })
		}, 0, 3, 0, []int{100, 100, 50}},
		{"other labels: each slice once", 250, func(w *world) {
			w.Service = service(func(s *corev1.Service) { s.Labels = nil })
		}, 0, 3, 0, []int{100, 100, 50}},
		{"zone of a node known", 10, func(w *world) { w.Zones = map[string]string{"node-1": "zone-b"} }, 0, 1, 0, []int{10}},
		{"Service made anew: new slices first", 150, func(w *world) {
			w.Service = service(func(s *corev1.Service) { s.UID = "other" })
		}, 2, 0, 2, []int{100, 50}},
		{"pods changed in what does not matter", 10, func(w *world) {
			for _, p := range w.all {
				p.ResourceVersion, p.Annotations = "77", map[string]string{"a": "b"}
			}
		}, 0, 0, 0, []int{10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(service()).nodes(twoNodes).pods(manyPods(tt.before)...)
			w.sync(t, slicesOnly)
			w.count = map[Verb]int{}
			tt.change(w)
			w.sync(t, slicesOnly)
			want := map[Verb]int{Create: tt.create, Update: tt.update, Delete: tt.delete}
			for verb, n := range want {
				if w.count[verb] != n {
					t.Errorf("%d %ss, want %d", w.count[verb], verb, n)
				}
			}
			var sizes []int
			for _, s := range w.Slices {
				sizes = append(sizes, len(s.Endpoints))
			}
			slices.SortFunc(sizes, func(a, b int) int { return b - a })
			if diff := cmp.Diff(tt.sizes, sizes); diff != "" {
				t.Errorf("sizes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRemovalsFirst: 300 pods come and one goes; the one that goes is not kept
// waiting for them.
func TestRemovalsFirst(t *testing.T) {
	w := newWorld(service()).nodes(twoNodes).pods(manyPods(120)...)
	w.sync(t, bothKinds)
	w.all = manyPods(420)[1:]
	p := Make(w.input(), bothKinds)
	var got []string
	for _, write := range p.Writes {
		got = append(got, fmt.Sprintf("%d %s %T", write.Phase, write.Verb, write.Object))
	}
	want := []string{
		"0 update *v1.EndpointSlice", "0 update *v1.Endpoints",
		"1 create *v1.EndpointSlice", "1 create *v1.EndpointSlice", "1 create *v1.EndpointSlice",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestWhoseSlicesAreTouched(t *testing.T) {
	slice := func(name string, change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", Labels: sliceLabels(service()),
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service(), corev1.SchemeGroupVersion.WithKind("Service"))}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{}, Endpoints: []discoveryv1.Endpoint{},
		}
		change(s)
		return s
	}
	all := []*discoveryv1.EndpointSlice{
		slice("by-hand", func(s *discoveryv1.EndpointSlice) {
			delete(s.Labels, discoveryv1.LabelManagedBy)
			s.OwnerReferences = nil
		}),
		slice("mirrored", func(s *discoveryv1.EndpointSlice) {
			s.Labels[discoveryv1.LabelManagedBy] = "endpointslicemirroring-controller.k8s.io"
		}),
		slice("on-its-way-out", func(s *discoveryv1.EndpointSlice) { s.DeletionTimestamp = new(metav1.NewTime(epoch)) }),
		slice("ours", func(*discoveryv1.EndpointSlice) {}),
		slice("other-family", func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeIPv6 }),
		slice("of-an-earlier-service", func(s *discoveryv1.EndpointSlice) { s.OwnerReferences[0].UID = "earlier" }),
		slice("claims-to-be-ours", func(s *discoveryv1.EndpointSlice) { s.OwnerReferences = nil }),
	}
	for _, tt := range []struct {
		name    string
		svc     *corev1.Service
		deleted []string
	}{
		{"selector", service(), []string{"claims-to-be-ours", "of-an-earlier-service", "other-family"}},
		{"selector removed", service(func(s *corev1.Service) { s.Spec.Selector = nil }), []string{"of-an-earlier-service", "other-family", "ours"}},
		{"turned into an external name", service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), []string{"of-an-earlier-service", "other-family", "ours"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.svc)
			w.Slices = slices.Clone(all)
			var deleted []string
			for _, write := range w.sync(t, slicesOnly).Writes {
				if write.Verb != Delete {
					t.Errorf("%s of %s", write.Verb, write.Object.GetName())
				}
				deleted = append(deleted, write.Object.GetName())
			}
			slices.Sort(deleted)
			if diff := cmp.Diff(tt.deleted, deleted); diff != "" {
				t.Errorf("deleted (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTrigger(t *testing.T) {
	at := func(m time.Duration) time.Time { return epoch.Add(m * time.Minute) }
	for _, tt := range []struct {
		name   string
		change func(w *world)
		want   time.Time
	}{
		{"readiness changed", func(w *world) { setReady(w.all[0], false, at(5)) }, at(5)},
		{"the earliest of two", func(w *world) { setReady(w.all[0], false, at(6)); setReady(w.all[1], false, at(5)) }, at(5)},
		{"one that was published already does not count", func(w *world) { w.all = append(w.all, pod(9, func(p *corev1.Pod) { setReady(p, true, at(7)) })) }, at(7)},
		{"deletion asked for", func(w *world) { terminating(w.all[0]) }, epoch.Add(9*time.Minute + 30*time.Second)},
		{"gone", func(w *world) { w.all = w.all[1:] }, time.Time{}},
		{"only labels", func(w *world) { w.Service = service(func(s *corev1.Service) { s.Labels = nil }) }, time.Time{}},
		{"Service newer than its pods", func(w *world) {
			w.Service = service(func(s *corev1.Service) { s.UID, s.CreationTimestamp = "new", metav1.NewTime(at(8)) })
		}, at(8)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(service()).nodes(twoNodes).pods(pod(1), pod(2))
			w.sync(t, slicesOnly)
			tt.change(w)
			p := w.sync(t, slicesOnly)
			if !p.Trigger.Equal(tt.want) {
				t.Errorf("trigger is %v, want %v", p.Trigger, tt.want)
			}
			for _, write := range p.Writes {
				_, has := write.Object.GetAnnotations()[corev1.EndpointsLastChangeTriggerTime]
				if write.Verb != Delete && has == tt.want.IsZero() {
					t.Errorf("annotations are %v", write.Object.GetAnnotations())
				}
			}
		})
	}
}

func TestLeftOverHintsGo(t *testing.T) {
	w := newWorld(service()).nodes(twoNodes).pods(pod(1))
	w.sync(t, slicesOnly)
	w.Slices[0].Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "zone-z"}}}
	w.sync(t, slicesOnly)
	if h := w.Slices[0].Endpoints[0].Hints; h != nil {
		t.Errorf("hints are still %v", h)
	}
}

func BenchmarkMake(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 5000} {
		w := newWorld(service()).nodes(twoNodes).pods(manyPods(n)...)
		for i, write := range Make(w.input(), slicesOnly).Writes {
			s := write.Object.(*discoveryv1.EndpointSlice)
			s.Name = fmt.Sprint("slice-", i)
			w.Slices = append(w.Slices, s)
		}
		for _, opt := range []struct {
			name string
			Options
		}{{"slices", slicesOnly}, {"both", bothKinds}} {
			in := w.input()
			b.Run(fmt.Sprint(opt.name, "-", n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Make(in, opt.Options)
				}
			})
		}
	}
}
