package endpoints

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

func nodeThatIs(name string, status corev1.ConditionStatus, since time.Time) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(since)}}},
	}
}

// markedPod is as the node controller leaves a pod that was ready.
func markedPod(name, on string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: on},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
			Conditions: []corev1.PodCondition{{Type: corev1.ContainersReady, Status: "True"}, {Type: corev1.PodReady, Status: "False"}},
		},
	}
}

func readyPod(name, on string) *corev1.Pod {
	p := markedPod(name, on)
	p.Status.Conditions[1].Status = corev1.ConditionTrue
	return p
}

// TestSilentNodes holds when a pod that the node controller has marked is taken
// out: if its node is dead, but not if the cluster is cut off.
func TestSilentNodes(t *testing.T) {
	start := time.Unix(1000, 0)
	const alive, silent, unwell = corev1.ConditionTrue, corev1.ConditionUnknown, corev1.ConditionFalse
	type nodes []corev1.ConditionStatus
	for _, tt := range []struct {
		name  string
		nodes nodes
		after time.Duration
		// dead are the nodes whose pod is out.
		dead []int
	}{
		{"all live: their kubelets will say so of the pods, too", nodes{alive, alive, alive}, time.Hour, nil},
		{"one silent", nodes{silent, alive, alive}, silenceHolds, []int{0}},
		{"one silent, for a moment", nodes{silent, alive, alive}, silenceHolds - time.Millisecond, nil},
		{"one of two", nodes{alive, silent}, silenceHolds, []int{1}},
		{"all", nodes{silent, silent, silent}, time.Hour, nil},
		{"the only one", nodes{silent}, time.Hour, nil},
		{"most", nodes{silent, silent, alive}, time.Hour, nil},
		{"a zone of two", nodes{silent, silent, alive, alive}, silenceHolds, []int{0, 1}},
		{"one says that it is unwell", nodes{unwell, alive}, 0, []int{0}},
		{"that one is not cut off", nodes{unwell, silent, silent}, time.Hour, []int{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := newIndex()
			for i, status := range tt.nodes {
				x.setNode(nodeThatIs(fmt.Sprint(i), status, start), start)
				x.setService(serviceOver(fmt.Sprint(i)))
				x.setPod(readyPod(fmt.Sprint(i), fmt.Sprint(i)))
			}
			var dead []int
			for i := range tt.nodes {
				name := fmt.Sprint(i)
				published := addresses(t, x, name, nil, start.Add(tt.after))
				x.setPod(markedPod(name, name))
				if now := addresses(t, x, name, published, start.Add(tt.after)); len(now.Subsets[0].Addresses) == 0 {
					dead = append(dead, i)
					// It is not the node's return that makes the pod answer again.
					x.setNode(nodeThatIs(name, alive, start), start)
					if now = addresses(t, x, name, now, start.Add(time.Hour)); len(now.Subsets[0].Addresses) != 0 {
						t.Errorf("node %d is back, and at once its pod is served: %v", i, now.Subsets)
					}
					x.setNode(nodeThatIs(name, tt.nodes[i], start), start)
				}
			}
			if diff := cmp.Diff(tt.dead, dead); diff != "" {
				t.Errorf("nodes taken to be dead (-want +got):\n%s", diff)
			}
		})
	}
}

// addresses plans the Endpoints of a Service and returns them as they are then.
func addresses(t *testing.T, x *index, name string, published *corev1.Endpoints, now time.Time) *corev1.Endpoints {
	t.Helper()
	in, _ := x.input(key{Namespace: "ns", Name: name}, now)
	in.Endpoints = published
	p := plan.Make(in, plan.Options{Endpoints: true, MaxEndpointsPerSlice: 100})
	for _, w := range p.Writes {
		published = w.Object.(*corev1.Endpoints)
	}
	if published == nil || len(published.Subsets) != 1 {
		t.Fatalf("Service %s: %+v", name, p.Writes)
	}
	return published
}

func serviceOver(app string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: app},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
}

// TestSilenceIsPlannedAgain holds that whoever is touched by the silence of a
// node is planned when it is noticed, and again when it has lasted: whichever
// of node and pod is heard of first, and also when it is others that change
// what it means.
func TestSilenceIsPlannedAgain(t *testing.T) {
	now := time.Unix(1000, 0)
	fresh := func(statuses ...corev1.ConditionStatus) *index {
		x := newIndex()
		for i, s := range statuses {
			x.setNode(nodeThatIs(fmt.Sprint(i), s, now.Add(-time.Minute)), now)
			x.setService(serviceOver(fmt.Sprint(i)))
			x.setPod(markedPod(fmt.Sprint(i), fmt.Sprint(i)))
		}
		return x
	}
	const alive, silent = corev1.ConditionTrue, corev1.ConditionUnknown
	names := func(a affected) []string {
		var out []string
		for _, k := range a.keys {
			out = append(out, k.Name)
		}
		slices.Sort(out)
		return out
	}
	for _, tt := range []struct {
		name  string
		got   affected
		want  []string
		again time.Duration
	}{
		{"node falls silent", fresh(alive, alive).setNode(nodeThatIs("0", silent, now), now), []string{"0"}, silenceHolds},
		{"so many that they are cut off", fresh(silent, alive, alive).setNode(nodeThatIs("1", silent, now), now), []string{"0", "1", "2"}, silenceHolds},
		{"no longer so many", fresh(silent, silent, alive).setNode(nodeThatIs("1", alive, now), now), []string{"0", "1", "2"}, silenceHolds},
		{"the last is back", fresh(silent, alive).setNode(nodeThatIs("0", alive, now), now), []string{"0"}, 0},
		{"nothing new", fresh(silent, alive).setNode(nodeThatIs("0", silent, now.Add(-time.Minute)), now), nil, silenceHolds},
		{"pod is marked after its node fell silent", fresh(silent, alive).setPod(func() *corev1.Pod {
			p := markedPod("new", "0")
			p.Labels["app"] = "0"
			return p
		}()), []string{"0"}, silenceHolds},
		{"a silent node is deleted, and with it most are not silent any more", fresh(silent, silent, alive).deleteNode("0"), []string{"0", "1", "2"}, silenceHolds},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, names(tt.got)); diff != "" {
				t.Errorf("planned (-want +got):\n%s", diff)
			}
			if tt.got.again != tt.again {
				t.Errorf("again after %v, want %v", tt.got.again, tt.again)
			}
		})
	}
}

// TestFailedNodes holds which Services are planned when nodes fail and come back,
// and what the plan is then told: also of a node that the node controller has
// nothing to say of, and in the lane of removals only when something is taken away.
func TestFailedNodes(t *testing.T) {
	now := time.Unix(1000, 0)
	x := newIndex()
	for i := range 3 {
		name := fmt.Sprint(i)
		x.setNode(nodeThatIs(name, corev1.ConditionTrue, now), now)
		x.setService(serviceOver(name))
		x.setPod(readyPod(name, name))
	}
	names := func(a affected) []string {
		var out []string
		for _, k := range a.keys {
			out = append(out, k.Name)
		}
		slices.Sort(out)
		return out
	}
	for _, tt := range []struct {
		name       string
		failed     map[string]string
		died, back []string
	}{
		{"one fails", map[string]string{"1": "why"}, []string{"1"}, nil},
		{"the same", map[string]string{"1": "why"}, nil, nil},
		{"another fails and that is back", map[string]string{"2": "why", "gone": "why"}, []string{"2"}, []string{"1"}},
		{"all are back", nil, nil, []string{"2"}},
	} {
		died, back := x.setFailed(tt.failed)
		if diff := cmp.Diff([][]string{tt.died, tt.back}, [][]string{names(died), names(back)}); diff != "" {
			t.Errorf("%s: died and back (-want +got):\n%s", tt.name, diff)
		}
		if !died.removes || back.removes {
			t.Errorf("%s: those that died are removals: %t; those that are back: %t", tt.name, died.removes, back.removes)
		}
		for i := range 3 {
			name := fmt.Sprint(i)
			in, _ := x.input(key{Namespace: "ns", Name: name}, now)
			if why := in.Failed[name]; why != tt.failed[name] || in.Dead[name] != (why != "") {
				t.Errorf("%s: the plan of Service %s is told dead %t, %q", tt.name, name, in.Dead[name], why)
			}
		}
	}
}
