package verdict

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestMarked: only what no kubelet writes is the node controller's.
func TestMarked(t *testing.T) {
	at := func(second int64) metav1.Time { return metav1.NewTime(time.Unix(second, 0)) }
	cond := func(t corev1.PodConditionType, status corev1.ConditionStatus, second int64) corev1.PodCondition {
		return corev1.PodCondition{Type: t, Status: status, LastTransitionTime: at(second)}
	}
	gates := []corev1.PodReadinessGate{{ConditionType: "a/gate"}}
	for _, tt := range []struct {
		name       string
		gates      []corev1.PodReadinessGate
		conditions []corev1.PodCondition
		want       bool
	}{
		{"ready", nil, []corev1.PodCondition{cond(corev1.PodReady, "True", 5), cond(corev1.ContainersReady, "True", 5)}, false},
		{"marked", nil, []corev1.PodCondition{cond(corev1.PodReady, "False", 9), cond(corev1.ContainersReady, "True", 5)}, true},
		{"containers are not ready", nil, []corev1.PodCondition{cond(corev1.PodReady, "False", 9), cond(corev1.ContainersReady, "False", 9)}, false},
		{"nothing is known of containers", nil, []corev1.PodCondition{cond(corev1.PodReady, "False", 9)}, false},
		{"nothing is known", nil, nil, false},
		{"gate open since before", gates, []corev1.PodCondition{cond(corev1.PodReady, "False", 9), cond(corev1.ContainersReady, "True", 5), cond("a/gate", "True", 7)}, true},
		{"gate just opened", gates, []corev1.PodCondition{cond(corev1.PodReady, "False", 7), cond(corev1.ContainersReady, "True", 5), cond("a/gate", "True", 7)}, false},
		{"gate shut", gates, []corev1.PodCondition{cond(corev1.PodReady, "False", 9), cond(corev1.ContainersReady, "True", 5), cond("a/gate", "False", 7)}, false},
		{"gate without condition", gates, []corev1.PodCondition{cond(corev1.PodReady, "False", 9), cond(corev1.ContainersReady, "True", 5)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{ReadinessGates: tt.gates}, Status: corev1.PodStatus{Conditions: tt.conditions}}
			if got := Marked(pod); got != tt.want {
				t.Errorf("Marked() = %t", got)
			}
			if got := Serves(pod, Node{Known: true}); got != IsReady(pod) {
				t.Errorf("not trusted: Serves() = %t", got)
			}
			if got := Serves(pod, Node{Known: true, Trusted: true}); got != (IsReady(pod) || tt.want) {
				t.Errorf("trusted: Serves() = %t", got)
			}
		})
	}
}
