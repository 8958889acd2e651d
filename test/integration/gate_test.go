//go:build integration

package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestGate has pods wait for three nodes with real daemons, of which one does not
// hear of new endpoints for a while, and then not until the timeout.
func TestGate(t *testing.T) {
	f := newFleet(t, "leaderElection: {leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 500ms}\ncontrollers: {readiness: {gate: {timeout: 8s}}}\n", "g1", "g2", "g3")
	all := []string{"g1", "g2", "g3"}
	f.untilReady("all endpoints are published", all...)
	leader := f.leader()
	others := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == leader.name })
	deaf := f.members[others[0]]

	for i := range 5 {
		f.waitingPod(fmt.Sprint("quick-", i), i)
		f.letIn(fmt.Sprint("quick-", i), "Programmed", 0, 5*time.Second)
	}

	t.Logf("%s leads; %s does not hear of the API server any more", leader.name, deaf.name)
	deaf.way.shut()
	f.waitingPod("patient", 10)
	time.Sleep(3 * time.Second)
	if c := f.gate("patient"); c.Status == corev1.ConditionTrue {
		t.Fatalf("it is let in: %s: %s", c.Reason, c.Message)
	}
	f.untilReady("it is published nevertheless", slices.Sorted(slices.Values(append(slices.Repeat([]string{"g1"}, 6), all...)))...)
	deaf.way.open()
	f.letIn("patient", "Programmed", 3*time.Second, 8*time.Second)

	deaf.way.shut()
	f.waitingPod("let-in", 11)
	if c := f.letIn("let-in", "TimedOut", 8*time.Second, 12*time.Second); !strings.HasSuffix(c.Message, "s 2 of 3 nodes send to the pod; behind: "+deaf.name) {
		t.Errorf("message: %s", c.Message)
	}
	deaf.way.open()
}

// waitingPod makes a pod of "web" that lacks nothing but the gate.
func (f *fleet) waitingPod(name string, n int) {
	f.t.Helper()
	ctx := f.t.Context()
	pod, err := f.api.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "g1", Containers: []corev1.Container{{Name: "main", Image: "none"}},
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "signpost.dev/programmed"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	ip := fmt.Sprintf("10.244.1.%d", n+1)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{
		{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now()}}}
	if _, err := f.api.CoreV1().Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

// gate returns the condition of a pod's gate.
func (f *fleet) gate(pod string) corev1.PodCondition {
	f.t.Helper()
	p, err := f.api.CoreV1().Pods("default").Get(f.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "signpost.dev/programmed" {
			return c
		}
	}
	return corev1.PodCondition{}
}

// letIn holds that a pod is let in for a reason, not before and not after a time
// since it was made.
func (f *fleet) letIn(pod, reason string, before, after time.Duration) corev1.PodCondition {
	f.t.Helper()
	p, err := f.api.CoreV1().Pods("default").Get(f.t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	for {
		c, took := f.gate(pod), time.Since(p.CreationTimestamp.Time) // which is in seconds
		switch {
		case c.Status == corev1.ConditionTrue:
			f.t.Logf("%s: %s: %s", pod, c.Reason, c.Message)
			if c.Reason != reason || took < before {
				f.t.Errorf("%s is let in after %v: %s: %s", pod, took, c.Reason, c.Message)
			}
			return c
		case took > after+time.Second:
			f.t.Fatalf("%s is not let in after %v", pod, took)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
