package verdict

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestJudge(t *testing.T) {
	type change = func(*corev1.Pod)
	ready := func(status corev1.ConditionStatus) change {
		return func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, Reason: "TheReason"}}
		}
	}
	terminating := func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(time.Unix(1, 0))) }
	phase := func(ph corev1.PodPhase) change { return func(p *corev1.Pod) { p.Status.Phase = ph } }
	ips := func(ips ...corev1.PodIP) change {
		return func(p *corev1.Pod) { p.Status.PodIP, p.Status.PodIPs = "", ips }
	}
	container := func(s corev1.ContainerStatus) change {
		return func(p *corev1.Pod) { p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s) }
	}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled"}}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	gate := func(name string) change {
		return func(p *corev1.Pod) {
			p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: corev1.PodConditionType(name)})
		}
	}
	condition := func(name string, status corev1.ConditionStatus) change {
		return func(p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodConditionType(name), Status: status, Reason: "Why"})
		}
	}
	sidecar := func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "setup"}, {Name: "mesh", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "setup", State: ended}, {Name: "mesh", State: running}}
	}
	publish := func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }
	named := func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }
	twoPorts := func(s *corev1.Service) {
		named(s)
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 81, TargetPort: intstr.FromInt32(81)})
	}
	off := Conditions{}
	for _, tt := range []struct {
		name    string
		svc     func(*corev1.Service)
		pod     []change
		unknown bool   // node
		failed  string // the node, and why
		want    Verdict
	}{
		{name: "ready", pod: []change{ready("True")}, want: Verdict{In, Ready, "", "", true, Conditions{true, true, false}, nil}},
		{name: "terminating and serving", pod: []change{ready("True"), terminating},
			want: Verdict{ServingOnly, ServesWhileTerminating, "", "", true, Conditions{false, true, true}, nil}},
		{name: "terminating and not ready", pod: []change{ready("False"), terminating},
			want: Verdict{Out, Terminating, "", "", true, Conditions{false, false, true}, nil}},
		{name: "published though not ready", svc: publish, pod: []change{ready("False")},
			want: Verdict{In, PublishedNotReady, "", "", true, Conditions{true, false, false}, nil}},
		{name: "published though terminating", svc: publish, pod: []change{ready("True"), terminating},
			want: Verdict{In, PublishedNotReady, "", "", true, Conditions{true, true, true}, nil}},
		{name: "ready, where all are published", svc: publish, pod: []change{ready("True")},
			want: Verdict{In, Ready, "", "", true, Conditions{true, true, false}, nil}},
		{name: "failed", svc: publish, pod: []change{ready("True"), phase(corev1.PodFailed), func(p *corev1.Pod) { p.Status.Reason = "Evicted" }},
			want: Verdict{Out, Finished, "Failed", "Evicted", false, off, nil}},
		{name: "succeeded", pod: []change{phase(corev1.PodSucceeded)}, want: Verdict{Out, Finished, "Succeeded", "", false, off, nil}},
		{name: "no address", pod: []change{ips()}, want: Verdict{Out, NoAddress, "", "", false, off, nil}},
		{name: "no address of the family", pod: []change{ready("True"), ips(corev1.PodIP{IP: "fd00::1"})},
			want: Verdict{Out, NoAddressOfFamily, "IPv4", "", false, off, nil}},
		{name: "node unknown", pod: []change{ready("True")}, unknown: true, want: Verdict{Out, NodeUnknown, "node-1", "", false, off, nil}},
		{name: "node unknown, published", svc: publish, pod: []change{ready("False")}, unknown: true,
			want: Verdict{In, PublishedNotReady, "", "", true, Conditions{true, false, false}, nil}},
		{name: "none of the ports", svc: named, pod: []change{ready("True")},
			want: Verdict{Out, NoPort, "", "", true, Conditions{true, true, false}, []string{"web"}}},
		{name: "one port of two", svc: twoPorts, pod: []change{ready("True")},
			want: Verdict{In, Ready, "", "", true, Conditions{true, true, false}, []string{"web"}}},
		{name: "container waits", pod: []change{ready("False"), container(corev1.ContainerStatus{Name: "ok", Ready: true}), container(corev1.ContainerStatus{Name: "app", State: waiting})},
			want: Verdict{Out, ContainerNotReady, "app", "CrashLoopBackOff", true, off, nil}},
		{name: "container ended", pod: []change{ready("False"), container(corev1.ContainerStatus{Name: "app", State: ended})},
			want: Verdict{Out, ContainerNotReady, "app", "OOMKilled", true, off, nil}},
		{name: "probe fails", pod: []change{ready("False"), container(corev1.ContainerStatus{Name: "app", State: running, Started: new(true)})},
			want: Verdict{Out, ContainerNotReady, "app", "readiness probe fails", true, off, nil}},
		{name: "not started", pod: []change{ready("False"), container(corev1.ContainerStatus{Name: "app", State: running, Started: new(false)})},
			want: Verdict{Out, ContainerNotReady, "app", "startup probe has not succeeded", true, off, nil}},
		{name: "sidecar not ready; an init container that ended does not matter", pod: []change{ready("False"), sidecar},
			want: Verdict{Out, ContainerNotReady, "mesh", "readiness probe fails", true, off, nil}},
		{name: "gate without condition", pod: []change{ready("False"), gate("a/ok"), condition("a/ok", "True"), gate("b/missing")},
			want: Verdict{Out, GateNotTrue, "b/missing", "no such condition", true, off, nil}},
		{name: "gate not true", pod: []change{ready("False"), gate("a/no"), condition("a/no", "Unknown")},
			want: Verdict{Out, GateNotTrue, "a/no", "Why", true, off, nil}},
		{name: "condition false though nothing else is", pod: []change{ready("False"), container(corev1.ContainerStatus{Name: "app", Ready: true})},
			want: Verdict{Out, NotReady, "", "TheReason", true, off, nil}},
		{name: "init container at work", pod: []change{ready("False"), container(corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}}),
			func(p *corev1.Pod) {
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "setup", State: ended}, {Name: "migrate", State: waiting}}
			}},
			want: Verdict{Out, Initializing, "migrate", "CrashLoopBackOff", true, off, nil}},
		{name: "not scheduled", pod: []change{ips(), condition("PodScheduled", "False")}, want: Verdict{Out, NoAddress, "", "Why", false, off, nil}},
		{name: "no address while a container waits", pod: []change{ips(), container(corev1.ContainerStatus{Name: "app", State: waiting})},
			want: Verdict{Out, NoAddress, "", "CrashLoopBackOff", false, off, nil}},
		{name: "waits for the nodes", pod: []change{ready("False"), condition("ContainersReady", "True"), gate("signpost.dev/programmed")},
			want: Verdict{In, Programming, "", "", true, Conditions{true, true, false}, nil}},
		{name: "ready on a node that is dead", failed: "silent", pod: []change{ready("True")}, want: Verdict{Out, NodeDead, "node-1", "silent", true, off, nil}},
		{name: "waits for the nodes, of which its own is dead", failed: "silent", pod: []change{ready("False"), condition("ContainersReady", "True"), gate("signpost.dev/programmed")},
			want: Verdict{Out, NodeDead, "node-1", "silent", true, off, nil}},
		{name: "terminates on a node that is dead", failed: "silent", pod: []change{ready("True"), terminating},
			want: Verdict{Out, NodeDead, "node-1", "silent", true, Conditions{false, false, true}, nil}},
		{name: "not ready, and on a node that is dead", failed: "silent", pod: []change{ready("False"), container(corev1.ContainerStatus{Name: "app", State: ended})},
			want: Verdict{Out, ContainerNotReady, "app", "OOMKilled", true, off, nil}},
		{name: "published, whatever its node is", svc: publish, failed: "silent", pod: []change{ready("True")},
			want: Verdict{In, PublishedNotReady, "", "", true, Conditions{true, false, false}, nil}},
		{name: "no condition", want: Verdict{Out, NotReady, "", "no Ready condition", true, off, nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(80)}}}}
			if tt.svc != nil {
				tt.svc(svc)
			}
			pod := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "node-1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}}}
			for _, f := range tt.pod {
				f(pod)
			}
			if diff := cmp.Diff(tt.want, Judge(svc, pod, corev1.IPv4Protocol, Node{Known: !tt.unknown, Failed: tt.failed})); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ips    []string
		only   string // status.podIP
		v4, v6 []string
	}{
		{"both families", []string{"10.0.0.1", "fd00:0:0::1"}, "", []string{"10.0.0.1"}, []string{"fd00::1"}},
		{"sloppy text", []string{"010.000.0.01"}, "", []string{"10.0.0.1"}, nil},
		{"mapped", []string{"::ffff:10.0.0.1"}, "", []string{"10.0.0.1"}, nil},
		{"not an address", []string{"nonsense"}, "", nil, nil},
		{"only the old field", nil, "10.0.0.1", []string{"10.0.0.1"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{Status: corev1.PodStatus{PodIP: tt.only}}
			for _, ip := range tt.ips {
				pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
			}
			if diff := cmp.Diff(tt.v4, Addresses(pod, corev1.IPv4Protocol)); diff != "" {
				t.Errorf("IPv4 (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.v6, Addresses(pod, corev1.IPv6Protocol)); diff != "" {
				t.Errorf("IPv6 (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTargetPort(t *testing.T) {
	always := new(corev1.ContainerRestartPolicyAlways)
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Containers: []corev1.Container{
			{Ports: []corev1.ContainerPort{{Name: "web", Protocol: "UDP", ContainerPort: 1}, {Name: "web", Protocol: "TCP", ContainerPort: 2}}},
			{Ports: []corev1.ContainerPort{{Name: "web", Protocol: "TCP", ContainerPort: 3}}},
		},
		InitContainers: []corev1.Container{
			{Ports: []corev1.ContainerPort{{Name: "once", Protocol: "TCP", ContainerPort: 4}}},
			{RestartPolicy: always, Ports: []corev1.ContainerPort{{Name: "side", Protocol: "TCP", ContainerPort: 5}, {Name: "web", Protocol: "SCTP", ContainerPort: 6}}},
		},
	}}
	for _, tt := range []struct {
		target intstr.IntOrString
		proto  corev1.Protocol
		want   int32
		found  bool
	}{
		{intstr.FromInt32(8080), "TCP", 8080, true},
		{intstr.FromInt32(0), "TCP", 80, true},
		{intstr.FromString("web"), "TCP", 2, true},
		{intstr.FromString("web"), "", 2, true},
		{intstr.FromString("web"), "UDP", 1, true},
		{intstr.FromString("web"), "SCTP", 6, true},
		{intstr.FromString("side"), "TCP", 5, true},
		{intstr.FromString("once"), "TCP", 0, false},
		{intstr.FromString("side"), "UDP", 0, false},
	} {
		got, found := TargetPort(&corev1.ServicePort{Port: 80, Protocol: tt.proto, TargetPort: tt.target}, pod)
		if got != tt.want || found != tt.found {
			t.Errorf("TargetPort(%s/%s) = %d, %v; want %d, %v", tt.target.String(), tt.proto, got, found, tt.want, tt.found)
		}
	}
}
