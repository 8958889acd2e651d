//go:build integration

package readiness_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/readiness"
	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// nodes are nodes that say how far they are.
type nodes struct {
	mu    sync.Mutex
	marks map[string]uint64
	asked int
	// follow: they are as far as this says.
	follow func() uint64
}

func newNodes(names ...string) *nodes {
	n := &nodes{marks: map[string]uint64{}}
	for _, name := range names {
		n.marks[name] = 0
	}
	return n
}

// Ask implements readiness.Watermarks.
func (n *nodes) Ask(_ context.Context, who map[string]netip.Addr) map[string]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	out := map[string]uint64{}
	for name := range who {
		if out[name] = n.marks[name]; n.follow != nil {
			out[name] = n.follow()
		}
	}
	return out
}

func (n *nodes) reach(name string, version uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.marks[name] = version
}

func (n *nodes) addresses() map[string]netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string]netip.Addr{}
	for name := range n.marks {
		out[name] = netip.MustParseAddr("192.0.2.1")
	}
	return out
}

func (w *world) newGate(n *nodes, timeout time.Duration) *readiness.Gate {
	w.Helper()
	gate, err := readiness.NewGate(readiness.GateOptions{
		Client: w.Client, Watermarks: n, Nodes: n.addresses, Wanted: func(nodes int) int { return max(1, nodes) }, Timeout: timeout,
		Registerer: prometheus.NewRegistry(), Log: w.Logger(),
	})
	if err != nil {
		w.Fatal(err)
	}
	return gate
}

// published returns the version of the slice that has the pod as ready, 0 if none has.
func (w *world) published(pod *corev1.Pod) uint64 {
	w.Helper()
	var list discoveryv1.EndpointSliceList
	if err := w.List(w.Context(), &list, client.InNamespace(w.Namespace)); err != nil {
		w.Fatal(err)
	}
	for i := range list.Items {
		for _, e := range list.Items[i].Endpoints {
			if e.TargetRef != nil && e.TargetRef.UID == pod.UID && *e.Conditions.Ready && *e.Conditions.Serving {
				version, err := strconv.ParseUint(list.Items[i].ResourceVersion, 10, 64)
				if err != nil {
					w.Fatal(err)
				}
				return version
			}
		}
	}
	return 0
}

// gateOf returns the condition of the pod's gate.
func (w *world) gateOf(pod *corev1.Pod) corev1.PodCondition {
	w.Helper()
	if err := w.Get(w.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
		w.Fatal(err)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == verdict.ProgrammedGate {
			return c
		}
	}
	return corev1.PodCondition{}
}

func (w *world) opens(pod *corev1.Pod, reason string) corev1.PodCondition {
	w.Helper()
	w.Eventually(pod.Name+" is let in", func() bool { return w.gateOf(pod).Status == corev1.ConditionTrue })
	c := w.gateOf(pod)
	if c.Reason != reason {
		w.Errorf("%s is let in for %s (%s), want %s", pod.Name, c.Reason, c.Message, reason)
	}
	return c
}

// staysShut holds that the gate does not open within a while in which it could.
func (w *world) staysShut(pod *corev1.Pod, because string) {
	w.Helper()
	time.Sleep(700 * time.Millisecond)
	if c := w.gateOf(pod); c.Status == corev1.ConditionTrue {
		w.Fatalf("%s is let in (%s: %s), but %s", pod.Name, c.Reason, c.Message, because)
	}
}

// TestGate leads a pod through its life: it is published before it is ready, is
// let in when the last node has it, taken out, and has to wait again. The leader
// changes in between.
func TestGate(t *testing.T) {
	w := newWorld(t)
	w.node("gate-1")
	w.node("gate-2")
	app := map[string]string{"app": "web"}
	w.service("web", app)
	n := newNodes("gate-1", "gate-2", "gate-gone") // the last one has no Node
	w.gate = w.newGate(n, time.Minute)
	stop := w.term()

	pod := w.pod("web-1", "10.1.0.1", "gate-1", app, conditions("False", "False"), verdict.ProgrammedGate)
	w.staysShut(pod, "its containers are not ready")
	if w.published(pod) != 0 {
		t.Error("it is published before its containers are ready")
	}
	w.MergeStatus(pod, conditions("False", "True"))
	w.Eventually("the pod is published", func() bool { return w.published(pod) > 0 })
	var old corev1.Endpoints
	w.Eventually("so it is as Endpoints", func() bool {
		err := w.Get(t.Context(), client.ObjectKey{Namespace: w.Namespace, Name: "web"}, &old)
		return err == nil && len(old.Subsets) == 1 && len(old.Subsets[0].Addresses) == 1
	})
	version := w.published(pod)
	n.reach("gate-1", version+1000)
	n.reach("gate-2", version-1)
	w.staysShut(pod, "one node is behind")

	stop()
	w.gate = w.newGate(n, time.Minute)
	stop = w.term()
	w.staysShut(pod, "one node is behind, and the leader another")
	began := time.Now()
	n.reach("gate-2", version)
	c := w.opens(pod, "Programmed")
	t.Logf("open %v after the last node had it: %s", time.Since(began).Round(time.Millisecond), c.Message)
	if !strings.HasPrefix(c.Message, "2 of 2 nodes send to the pod, after ") {
		t.Errorf("message: %s", c.Message)
	}

	w.MergeStatus(pod, conditions("True", "True")) // as the kubelet does now
	time.Sleep(300 * time.Millisecond)
	if c := w.gateOf(pod); c.Status != corev1.ConditionTrue || w.published(pod) != version {
		t.Errorf("the pod became ready, and the gate is %s, its slice version %d, not %d", c.Status, w.published(pod), version)
	}
	w.MergeStatus(pod, conditions("False", "True")) // as the node controller does
	w.staysOpen(pod)

	w.MergeStatus(pod, conditions("False", "False"))
	w.Eventually("the gate is shut", func() bool { return w.gateOf(pod).Status == corev1.ConditionFalse })
	w.Eventually("the endpoint leaves", func() bool { return w.published(pod) == 0 })
	w.MergeStatus(pod, conditions("False", "True"))
	w.Eventually("it is published again", func() bool { return w.published(pod) > 0 })
	w.staysShut(pod, "gate-2 has not got it again")
	n.reach("gate-2", w.published(pod))
	w.Eventually("the gate is open again", func() bool { return w.gateOf(pod).Status == corev1.ConditionTrue })

	n.mu.Lock()
	asked := n.asked
	n.mu.Unlock()
	time.Sleep(600 * time.Millisecond)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.asked != asked {
		t.Errorf("nobody waits, and the nodes were asked %d times", n.asked-asked)
	}
	stop()
}

func (w *world) staysOpen(pod *corev1.Pod) {
	w.Helper()
	time.Sleep(500 * time.Millisecond)
	if c := w.gateOf(pod); c.Status != corev1.ConditionTrue {
		w.Errorf("the gate was shut (%s), but the pod is well", c.Reason)
	}
}

// TestGateDoesNotHoldForEver: a node that hangs, and a pod that no Service has.
func TestGateDoesNotHoldForEver(t *testing.T) {
	w := newWorld(t)
	w.node("slow-1")
	w.node("slow-2")
	app := map[string]string{"app": "web"}
	w.service("web", app)
	n := newNodes("slow-1", "slow-2")
	n.reach("slow-1", 1<<62)
	w.gate = w.newGate(n, 2*time.Second)
	w.term()
	alone := w.pod("alone", "10.1.0.2", "slow-1", map[string]string{"app": "none"}, conditions("False", "True"), verdict.ProgrammedGate)
	w.opens(alone, "NoService")
	began := time.Now()
	pod := w.pod("web-1", "10.1.0.1", "slow-1", app, conditions("False", "True"), verdict.ProgrammedGate)
	c := w.opens(pod, "TimedOut")
	if took := time.Since(began); took < 1900*time.Millisecond || !strings.HasSuffix(c.Message, "s 1 of 2 nodes send to the pod; behind: slow-2") {
		t.Errorf("after %v: %s", took, c.Message)
	}
	pod = w.pod("web-2", "10.1.0.3", "slow-1", app, conditions("False", "True"), verdict.ProgrammedGate, "example.com/other")
	w.staysShut(pod, "another gate is shut")
	if w.published(pod) != 0 {
		t.Error("a pod whose other gate is shut is published")
	}
}

// TestWithoutGate: if nobody opens the gate, it is as any other.
func TestWithoutGate(t *testing.T) {
	w := newWorld(t)
	w.node("without-1")
	app := map[string]string{"app": "web"}
	w.service("web", app)
	w.term()
	plain := w.pod("plain", "10.1.0.1", "without-1", app, conditions("True", "True"))
	pod := w.pod("gated", "10.1.0.2", "without-1", app, conditions("False", "True"), verdict.ProgrammedGate)
	w.Eventually("the plain one is published", func() bool { return w.published(plain) > 0 })
	w.staysShut(pod, "nobody opens it")
	if w.published(pod) != 0 || len(pod.Status.Conditions) != 2 {
		t.Errorf("published in version %d, conditions %v", w.published(pod), pod.Status.Conditions)
	}
}

// TestManyGates has many pods wait at once and says what that takes.
func TestManyGates(t *testing.T) {
	const pods = 200
	w := newWorld(t)
	w.node("many-1")
	app := map[string]string{"app": "web"}
	w.service("web", app)
	n := newNodes("many-1")
	n.follow = func() (newest uint64) {
		var list discoveryv1.EndpointSliceList
		if err := w.List(context.Background(), &list, client.InNamespace(w.Namespace)); err != nil {
			t.Error(err)
		}
		for i := range list.Items {
			version, _ := strconv.ParseUint(list.Items[i].ResourceVersion, 10, 64)
			newest = max(newest, version)
		}
		return newest
	}
	w.gate = w.newGate(n, time.Minute)
	w.term()
	var all []*corev1.Pod
	for i := range pods {
		all = append(all, w.pod(fmt.Sprint("web-", i), fmt.Sprintf("10.1.1.%d", i+1), "many-1", app, conditions("False", "False"), verdict.ProgrammedGate))
	}
	began := time.Now()
	for _, pod := range all {
		w.MergeStatus(pod, conditions("False", "True"))
	}
	written := time.Since(began)
	var took []time.Duration
	for _, pod := range all {
		c := w.opens(pod, "Programmed")
		_, after, _ := strings.Cut(c.Message, "after ")
		d, err := time.ParseDuration(strings.ReplaceAll(after, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, d)
	}
	slices.Sort(took)
	t.Logf("%d pods became ready within %v, the last gate was open after %v; from published to open p50 %v, p99 %v; %d questions",
		pods, written.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), took[pods/2], took[pods*99/100], n.asked)
}
