package endpoints

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// TestVerdictOfWhatIsKept holds that the cache keeps what a verdict looks at, and
// nothing of the containers of pods that are ready.
func TestVerdictOfWhatIsKept(t *testing.T) {
	always := new(corev1.ContainerRestartPolicyAlways)
	state := func(s corev1.ContainerState) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "app", State: s, Started: new(true), Image: "image", ContainerID: "id"}
	}
	for name, status := range map[string]corev1.PodStatus{
		"ready":     {Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: "True"}}, ContainerStatuses: []corev1.ContainerStatus{{Name: "app", Ready: true}}},
		"waits":     {ContainerStatuses: []corev1.ContainerStatus{state(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "long"}})}},
		"runs":      {ContainerStatuses: []corev1.ContainerStatus{state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})}},
		"ended":     {ContainerStatuses: []corev1.ContainerStatus{state(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}})}},
		"sidecar":   {InitContainerStatuses: []corev1.ContainerStatus{{Name: "mesh", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}},
		"init":      {InitContainerStatuses: []corev1.ContainerStatus{{Name: "setup", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 1}}}}},
		"gate":      {Conditions: []corev1.PodCondition{{Type: "a/gate", Status: "False", Reason: "Why"}}},
		"scheduled": {Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: "False", Reason: "Unschedulable"}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"},
				Spec: corev1.PodSpec{
					NodeName:       "n",
					Containers:     []corev1.Container{{Name: "app", Image: "image"}},
					InitContainers: []corev1.Container{{Name: "setup"}, {Name: "mesh", RestartPolicy: always}},
					ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "a/gate"}},
				},
				Status: status,
			}
			for _, ip := range []string{"", "10.0.0.1"} {
				pod.Status.PodIP = ip
				kept, err := stripPod(pod)
				if err != nil {
					t.Fatal(err)
				}
				svc := &corev1.Service{}
				node := verdict.Node{Known: true}
				if diff := cmp.Diff(verdict.Judge(svc, pod, corev1.IPv4Protocol, node), verdict.Judge(svc, kept.(*corev1.Pod), corev1.IPv4Protocol, node)); diff != "" {
					t.Errorf("address %q (-whole +kept):\n%s", ip, diff)
				}
				if name == "ready" && len(kept.(*corev1.Pod).Status.ContainerStatuses) != 0 {
					t.Error("containers of a pod that is ready are kept")
				}
			}
		})
	}
}
