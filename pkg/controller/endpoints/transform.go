package endpoints

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// TermObjects returns what the cache of a term should keep of the objects that
// the controller reads there: of a Pod some tenth. The result is for
// cache.Options.ByObject.
func TermObjects() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}:       {Transform: stripPod},
		&corev1.Node{}:      {Transform: stripNode},
		&corev1.Endpoints{}: {Transform: cache.TransformStripManagedFields()},
	}
}

// stripPod keeps what a plan looks at.
func stripPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	meta := stripMeta(&p.ObjectMeta)
	meta.DeletionTimestamp, meta.DeletionGracePeriodSeconds = p.DeletionTimestamp, p.DeletionGracePeriodSeconds
	return &corev1.Pod{
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			NodeName:       p.Spec.NodeName,
			Hostname:       p.Spec.Hostname,
			Subdomain:      p.Spec.Subdomain,
			Containers:     stripContainers(p.Spec.Containers),
			InitContainers: stripContainers(p.Spec.InitContainers),
			ReadinessGates: p.Spec.ReadinessGates,
			HostNetwork:    p.Spec.HostNetwork,
		},
		Status: stripStatus(&p.Status),
	}, nil
}

// stripStatus keeps of the containers why they are not ready, and that only of a
// pod that is not: nobody asks it of the others, and they are the most.
func stripStatus(s *corev1.PodStatus) corev1.PodStatus {
	out := corev1.PodStatus{Phase: s.Phase, Reason: s.Reason, PodIP: s.PodIP, PodIPs: s.PodIPs, Conditions: s.Conditions}
	if !verdict.IsReady(&corev1.Pod{Status: *s}) {
		out.ContainerStatuses = stripContainerStatuses(s.ContainerStatuses)
		out.InitContainerStatuses = stripContainerStatuses(s.InitContainerStatuses)
	}
	return out
}

func stripContainerStatuses(in []corev1.ContainerStatus) []corev1.ContainerStatus {
	if len(in) == 0 {
		return nil
	}
	out := make([]corev1.ContainerStatus, len(in))
	for i := range in {
		out[i] = corev1.ContainerStatus{Name: in[i].Name, Ready: in[i].Ready, Started: in[i].Started}
		switch s := in[i].State; {
		case s.Waiting != nil:
			out[i].State.Waiting = &corev1.ContainerStateWaiting{Reason: s.Waiting.Reason}
		case s.Running != nil:
			out[i].State.Running = &corev1.ContainerStateRunning{}
		case s.Terminated != nil:
			out[i].State.Terminated = &corev1.ContainerStateTerminated{Reason: s.Terminated.Reason, ExitCode: s.Terminated.ExitCode}
		}
	}
	return out
}

func stripContainers(in []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range in {
		// A container without ports has nothing to publish, but that it is
		// restartable tells what its status means.
		if len(in[i].Ports) > 0 || in[i].RestartPolicy != nil {
			out = append(out, corev1.Container{Name: in[i].Name, Ports: in[i].Ports, RestartPolicy: in[i].RestartPolicy})
		}
	}
	return out
}

// stripNode keeps the zone, whether the node lives, but not how lately that was
// heard, and what it adds to its zone's CPUs: a node's status changes often and is
// large.
func stripNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	meta := stripMeta(&n.ObjectMeta)
	meta.Labels = nil
	for _, name := range []string{corev1.LabelTopologyZone, labelControlPlane, labelMaster} {
		if value, ok := n.Labels[name]; ok {
			if meta.Labels == nil {
				meta.Labels = map[string]string{}
			}
			meta.Labels[name] = value
		}
	}
	out := &corev1.Node{ObjectMeta: meta}
	if cpu, ok := n.Status.Allocatable[corev1.ResourceCPU]; ok {
		out.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: cpu}
	}
	if ready := nodeReady(n); ready != nil {
		out.Status.Conditions = []corev1.NodeCondition{{Type: ready.Type, Status: ready.Status, LastTransitionTime: ready.LastTransitionTime}}
	}
	return out, nil
}

func stripMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Labels: m.Labels, CreationTimestamp: m.CreationTimestamp,
	}
}
