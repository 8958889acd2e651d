package verdict

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWaits(t *testing.T) {
	cond := func(t corev1.PodConditionType, status corev1.ConditionStatus, second int64) corev1.PodCondition {
		return corev1.PodCondition{Type: t, Status: status, LastTransitionTime: metav1.NewTime(time.Unix(second, 0))}
	}
	ours, both := []corev1.PodConditionType{ProgrammedGate}, []corev1.PodConditionType{"a/gate", ProgrammedGate}
	const containers, ready = corev1.ContainersReady, corev1.PodReady
	for _, tt := range []struct {
		name       string
		gates      []corev1.PodConditionType
		conditions []corev1.PodCondition
		change     func(*corev1.Pod)
		want       bool
	}{
		{"only the gate is missing", ours, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1)}, nil, true},
		{"the gate is False", ours, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1), cond(ProgrammedGate, "False", 1)}, nil, true},
		{"the gate is open, the kubelet has not seen it", ours, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1), cond(ProgrammedGate, "True", 2)}, nil, true},
		{"so in the same second", ours, []corev1.PodCondition{cond(ready, "False", 2), cond(containers, "True", 2), cond(ProgrammedGate, "True", 2)}, nil, true},
		{"marked by the node controller", ours, []corev1.PodCondition{cond(ready, "False", 9), cond(containers, "True", 1), cond(ProgrammedGate, "True", 2)}, nil, false},
		{"ready", ours, []corev1.PodCondition{cond(ready, "True", 3), cond(containers, "True", 1), cond(ProgrammedGate, "True", 2)}, nil, false},
		{"no such gate", nil, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1)}, nil, false},
		{"containers are not ready", ours, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "False", 1)}, nil, false},
		{"nothing is known of containers", ours, []corev1.PodCondition{cond(ready, "False", 1)}, nil, false},
		{"another gate is shut", both, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1), cond("a/gate", "False", 1)}, nil, false},
		{"another gate has no condition", both, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1)}, nil, false},
		{"the other gate is open", both, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1), cond("a/gate", "True", 1)}, nil, true},
		{"terminating", ours, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1)},
			func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(time.Unix(2, 0))) }, false},
		{"finished", ours, []corev1.PodCondition{cond(ready, "False", 1), cond(containers, "True", 1)},
			func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{Status: corev1.PodStatus{Conditions: tt.conditions}}
			for _, g := range tt.gates {
				pod.Spec.ReadinessGates = append(pod.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: g})
			}
			if tt.change != nil {
				tt.change(pod)
			}
			if got := Waits(pod); got != tt.want {
				t.Errorf("Waits() = %t", got)
			}
			if got := Serves(pod, Node{Known: true}); got != (tt.want || IsReady(pod)) {
				t.Errorf("Serves() = %t", got)
			}
			if got := Serves(pod, Node{Known: true, Dead: true}); got != IsReady(pod) {
				t.Errorf("on a dead node: Serves() = %t", got)
			}
		})
	}
}
