package verdict

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	netutils "k8s.io/utils/net"
)

// Addresses returns the pod's addresses of a family in canonical text, in the
// pod's order. An address that cannot be read is left out.
func Addresses(pod *corev1.Pod, family corev1.IPFamily) []string {
	var out []string
	if len(pod.Status.PodIPs) == 0 {
		return appendAddress(out, pod.Status.PodIP, family)
	}
	for _, ip := range pod.Status.PodIPs {
		out = appendAddress(out, ip.IP, family)
	}
	return out
}

// appendAddress reads text as leniently as the API does (leading zeros), for old
// objects may still have it so.
func appendAddress(out []string, text string, family corev1.IPFamily) []string {
	ip := netutils.ParseIPSloppy(text)
	if ip == nil || netutils.IsIPv6(ip) != (family == corev1.IPv6Protocol) {
		return out
	}
	return append(out, ip.String())
}

func hasAddress(pod *corev1.Pod) bool {
	return pod.Status.PodIP != "" || len(pod.Status.PodIPs) > 0
}

// TargetPort returns the port that the pod listens on for a Service's port: the
// number, or the port of that name and protocol of the first container, else of
// the first restartable init container, that has it. It returns false if none has.
func TargetPort(port *corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if port.TargetPort.Type == intstr.Int {
		if port.TargetPort.IntVal == 0 {
			return port.Port, true // the API's default
		}
		return port.TargetPort.IntVal, true
	}
	for i := range pod.Spec.Containers {
		if n, ok := containerPort(&pod.Spec.Containers[i], port); ok {
			return n, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if !isRestartable(c) {
			continue
		}
		if n, ok := containerPort(c, port); ok {
			return n, true
		}
	}
	return 0, false
}

func isRestartable(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func containerPort(c *corev1.Container, want *corev1.ServicePort) (int32, bool) {
	for i := range c.Ports {
		p := &c.Ports[i]
		if p.Name == want.TargetPort.StrVal && protocol(p.Protocol) == protocol(want.Protocol) {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

func missingPorts(svc *corev1.Service, pod *corev1.Pod) []string {
	var out []string
	for i := range svc.Spec.Ports {
		if _, ok := TargetPort(&svc.Spec.Ports[i], pod); !ok {
			out = append(out, svc.Spec.Ports[i].TargetPort.StrVal)
		}
	}
	return out
}
