//go:build integration

package integration

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/signpost-dev/signpost/test/netlab"
)

// makeNode makes the Node object of this node, and the DNS Service.
func (n *node) makeNode() {
	n.t.Helper()
	object := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName},
		Spec:       corev1.NodeSpec{PodCIDR: netlab.PodCIDRs()[0].String(), PodCIDRs: []string{netlab.PodCIDRs()[0].String()}},
	}
	object, err := n.api.CoreV1().Nodes().Create(n.t.Context(), object, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	object.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.lab.Node.Addrs[0].String()}}
	if _, err := n.api.CoreV1().Nodes().UpdateStatus(n.t.Context(), object, metav1.UpdateOptions{}); err != nil {
		n.t.Fatal(err)
	}
	n.makeService("kube-system", "kube-dns", func(s *corev1.Service) {
		s.Spec.ClusterIP = dnsIP
		s.Spec.Ports = []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}, {Name: "dns-tcp", Port: 53}}
	})
}

func (n *node) makeService(namespace, name string, change func(*corev1.Service)) *corev1.Service {
	n.t.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "web", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
	change(svc)
	svc, err := n.api.CoreV1().Services(namespace).Create(n.t.Context(), svc, metav1.CreateOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	return svc
}

// makePod makes a Pod of the app "web" that runs in the namespace of the lab of that name, with a
// server that answers at port 8080, and marks it ready.
func (n *node) makePod(name string) {
	n.t.Helper()
	ns := n.lab.Pod(name)
	server, err := ns.Serve("tcp", netip.AddrPortFrom(ns.Addrs[0], 8080))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = server.Close() })
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeName:   nodeName,
			Containers: []corev1.Container{{Name: "main", Image: "none", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
		},
	}
	if _, err := n.api.CoreV1().Pods("default").Create(n.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		n.t.Fatal(err)
	}
	n.setReady(name, true)
}

// setReady writes the status of a Pod as a kubelet would.
func (n *node) setReady(name string, ready bool) {
	n.t.Helper()
	pod, err := n.api.CoreV1().Pods("default").Get(n.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	ip := n.lab.Pod(name).Addrs[0].String()
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}},
	}
	if _, err := n.api.CoreV1().Pods("default").UpdateStatus(n.t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}

// answering returns nil if exactly these pods answer at to.
func (n *node) answering(from, to string, pods ...string) error {
	seen := map[string]int{}
	for range 8 * max(1, len(pods)) {
		answer, err := n.dial(from, to)
		if err != nil {
			return err
		}
		seen[answer.Name]++
	}
	if len(seen) != len(pods) {
		return fmt.Errorf("%v answer, want %v", seen, pods)
	}
	for _, p := range pods {
		if seen[p] == 0 {
			return fmt.Errorf("%v answer, want %v", seen, pods)
		}
	}
	return nil
}
