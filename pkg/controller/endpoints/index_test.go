package endpoints

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestIndexAgainstScan makes random changes and compares each Service's pods
// with a scan over everything, and checks that whichever Service's plan could
// differ is named.
func TestIndexAgainstScan(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	x := newIndex()
	services, pods, nodes := map[key]*corev1.Service{}, map[key]*corev1.Pod{}, map[string]*corev1.Node{}
	labels := func(n int) map[string]string {
		out := map[string]string{}
		for range rng.IntN(n) {
			out[fmt.Sprint("k", rng.IntN(3))] = fmt.Sprint(rng.IntN(2))
		}
		return out
	}
	name := func() key {
		return key{Namespace: fmt.Sprint("ns", rng.IntN(2)), Name: fmt.Sprint(rng.IntN(6))}
	}
	scan := func(k key) []string {
		var out []string
		svc := services[k]
		for _, p := range pods {
			if p.Namespace == k.Namespace && len(svc.Spec.Selector) > 0 && selects(svc.Spec.Selector, p.Labels) {
				n, known := nodes[p.Spec.NodeName]
				zone := "-"
				if known {
					zone = n.Labels[corev1.LabelTopologyZone]
				}
				out = append(out, fmt.Sprint(p.Name, p.UID, p.Status.Phase, p.Spec.NodeName, zone))
			}
		}
		slices.Sort(out)
		return out
	}
	for step := range 5000 {
		before := map[key][]string{}
		for k := range services {
			before[k] = scan(k)
		}
		named := map[key]bool{}
		note := func(a affected) {
			for _, k := range a.keys {
				named[k] = true
			}
		}
		k := name()
		switch rng.IntN(8) {
		case 0, 1:
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name}, Spec: corev1.ServiceSpec{Selector: labels(3)}}
			services[k] = svc
			x.setService(svc)
			named[k] = true
		case 2:
			delete(services, k)
			x.deleteService(k)
		case 3:
			delete(pods, k)
			note(x.deletePod(k))
		case 4:
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("node", rng.IntN(2)), Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprint(rng.IntN(2))}}}
			nodes[n.Name] = n
			note(x.setNode(n, time.Now()))
		default:
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: k.Name, UID: types.UID(fmt.Sprint(rng.IntN(2))), Labels: labels(5)}}
			p.Status.Phase = []corev1.PodPhase{corev1.PodRunning, corev1.PodFailed}[rng.IntN(2)]
			p.Spec.NodeName = fmt.Sprint("node", rng.IntN(2))
			pods[k] = p
			note(x.setPod(p))
		}
		for k := range services {
			in, ok := x.input(k, time.Now())
			if !ok {
				t.Fatalf("step %d: %v is missing", step, k)
			}
			var got []string
			for _, p := range in.Pods {
				zone, known := in.Zones[p.Spec.NodeName]
				if !known {
					zone = "-"
				}
				got = append(got, fmt.Sprint(p.Name, p.UID, p.Status.Phase, p.Spec.NodeName, zone))
			}
			slices.Sort(got)
			want := scan(k)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("step %d: pods of %v (-scan +index):\n%s", step, k, diff)
			}
			if !slices.Equal(want, before[k]) && !named[k] {
				t.Fatalf("step %d: %v has changed and was not named", step, k)
			}
		}
	}
	for k := range services {
		x.deleteService(k)
	}
	for k := range pods {
		x.deletePod(k)
	}
	if len(x.namespaces)+len(x.services)+len(x.nodes.pods) != 0 {
		t.Errorf("left in an empty index: %v %v %v", x.namespaces, x.services, x.nodes.pods)
	}
}

// TestWhatCountsAsChange: which updates of a pod cause a plan, and which of
// those must not wait for others.
func TestWhatCountsAsChange(t *testing.T) {
	ready := func(status corev1.ConditionStatus) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
		}
	}
	marked := func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: "False"}, {Type: corev1.ContainersReady, Status: "True"}}
	}
	at := func(ip string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = ip, []corev1.PodIP{{IP: ip}} }
	}
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(time.Unix(100, 0))) }
	none := func(*corev1.Pod) {}
	for _, tt := range []struct {
		name             string
		was, is          func(*corev1.Pod)
		planned, removes bool
	}{
		{"nothing", none, none, false, false},
		{"annotations and versions", none, func(p *corev1.Pod) { p.ResourceVersion, p.Annotations = "2", map[string]string{"a": "b"} }, false, false},
		{"becomes ready", ready("False"), ready("True"), true, false},
		{"loses readiness", ready("True"), ready("False"), true, true},
		{"starts to terminate", ready("True"), func(p *corev1.Pod) { ready("True")(p); deleted(p) }, true, true},
		{"goes on terminating", deleted, func(p *corev1.Pod) { deleted(p); p.ResourceVersion = "2" }, false, false},
		{"fails while not ready", ready("False"), func(p *corev1.Pod) { ready("False")(p); p.Status.Phase = corev1.PodFailed }, true, true},
		{"is found to be unready while it is marked", marked, func(p *corev1.Pod) { marked(p); p.Status.Conditions[1].Status = "False" }, true, true},
		{"is marked", func(p *corev1.Pod) { marked(p); p.Status.Conditions[0].Status = "True" }, marked, true, false},
		{"gets its first address", none, func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "10.0.0.1", []corev1.PodIP{{IP: "10.0.0.1"}} }, true, false},
		{"gets another address", at("10.0.0.1"), at("10.0.0.2"), true, true},
		{"other labels that select it too", none, func(p *corev1.Pod) { p.Labels["x"] = "y" }, false, false},
		{"labels that do not", none, func(p *corev1.Pod) { p.Labels = nil }, true, true},
		{"labels that do, at last", func(p *corev1.Pod) { p.Labels = nil }, none, true, false},
		{"another pod of the name", none, func(p *corev1.Pod) { p.UID = "other" }, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newIndex()
			x.setService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "a"}}})
			pod := func(change func(*corev1.Pod)) *corev1.Pod {
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid", Labels: map[string]string{"app": "a"}}}
				change(p)
				return p
			}
			x.setPod(pod(tt.was))
			a := x.setPod(pod(tt.is))
			if planned := len(a.keys) > 0; planned != tt.planned || (planned && a.removes != tt.removes) {
				t.Errorf("planned %v, removes %v; want %v, %v", planned, a.removes, tt.planned, tt.removes)
			}
		})
	}
}

// BenchmarkPodChange is the cost of finding a pod's Service among those of its
// namespace.
func BenchmarkPodChange(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := newIndex()
			for i := range n {
				x.setService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("svc", i)},
					Spec: corev1.ServiceSpec{Selector: map[string]string{"tier": "web", "app": fmt.Sprint(i)}}})
			}
			pods := [2]*corev1.Pod{}
			for i, phase := range []corev1.PodPhase{corev1.PodRunning, corev1.PodFailed} {
				pods[i] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", Labels: map[string]string{"tier": "web", "app": "7", "hash": "x"}}, Status: corev1.PodStatus{Phase: phase}}
			}
			i := 0
			for b.Loop() {
				i++
				p := pods[i%2].DeepCopy()
				p.Labels["hash"] = fmt.Sprint(i)
				x.setPod(p)
			}
		})
	}
}
