//go:build integration

package packets

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	nodeName = "node1"
	zone     = "zone1"
)

// endpoint is a pod of the lab as an endpoint: "a", "b" and "c" have their addresses.
type endpoint struct {
	pod string
	// away: it is said to be on another node, in another zone.
	away bool
	// terminating: it still serves. unready: it does not.
	terminating, unready bool
	// hint is the zone that it is meant for, nodeHint the node.
	hint, nodeHint string
}

// fixture is a Service of both families and its endpoints.
type fixture struct {
	name      string
	change    func(*corev1.Service)
	endpoints []endpoint
	// balancers are addresses in its status.
	balancers []corev1.LoadBalancerIngress
	// twice: its endpoints are in two slices of each family.
	twice bool
}

// here is a pod of this node, there one of another.
func here(pod string) endpoint  { return endpoint{pod: pod} }
func there(pod string) endpoint { return endpoint{pod: pod, away: true} }

func three() []endpoint { return []endpoint{here("a"), there("b"), there("c")} }

func nodePort(n int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort = n, n
	}
}

func balanced(n int32, ranges ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		nodePort(n)(s)
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		s.Spec.LoadBalancerSourceRanges = ranges
	}
}

func externalLocal(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// healthPorts are where load balancers ask for the endpoints of a Service.
func healthPorts() map[string]uint16 {
	return map[string]uint16{"balancedlocal": 30031, "balancedaway": 30032, "balancedleaving": 30033}
}

func checked(name string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.HealthCheckNodePort = int32(healthPorts()[name]) }
}

// sctp leaves the Service one port, of SCTP.
func sctp(s *corev1.Service) {
	nodePort(30040)(s)
	s.Spec.Ports = s.Spec.Ports[:1]
	s.Spec.Ports[0].Name, s.Spec.Ports[0].Protocol = "sctp", corev1.ProtocolSCTP
}

func internalLocal(s *corev1.Service) {
	s.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
}

// externalIPs are two that end with i.
func externalIPs(i int) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.ExternalIPs = []string{fmt.Sprint("203.0.113.", i), fmt.Sprint("2001:db8::", i)}
	}
}

func all(changes ...func(*corev1.Service)) func(*corev1.Service) {
	return func(s *corev1.Service) {
		for _, c := range changes {
			c(s)
		}
	}
}

// ingress are load balancer addresses that end with i.
func ingress(i int, mode *corev1.LoadBalancerIPMode) []corev1.LoadBalancerIngress {
	return []corev1.LoadBalancerIngress{
		{IP: fmt.Sprint("203.0.113.", i), IPMode: mode}, {IP: fmt.Sprintf("2001:db8::%x", i), IPMode: mode},
	}
}

func fixtures() []fixture {
	vip, proxied := new(corev1.LoadBalancerIPModeVIP), new(corev1.LoadBalancerIPModeProxy)
	return []fixture{
		{name: "web", endpoints: three()},
		{name: "empty"},
		{name: "self", endpoints: []endpoint{here("a")}},
		{name: "unready", endpoints: []endpoint{here("a"), {pod: "b", unready: true}}},
		{name: "leaving", endpoints: []endpoint{{pod: "a", terminating: true}, {pod: "b", unready: true}}},
		{name: "near", endpoints: []endpoint{{pod: "a", hint: zone}, {pod: "b", away: true, hint: "zone2"}}},
		{name: "nohint", endpoints: []endpoint{{pod: "a", hint: zone}, there("b")}},
		{name: "nearleaving", endpoints: []endpoint{{pod: "a", terminating: true, hint: "zone2"}, {pod: "b", away: true, terminating: true, hint: "zone2"}}},
		{name: "nearest", endpoints: []endpoint{{pod: "a", hint: zone, nodeHint: nodeName}, {pod: "b", away: true, hint: zone, nodeHint: "node2"}}},
		{name: "nearer", endpoints: []endpoint{{pod: "a", hint: zone, nodeHint: "node3"}, {pod: "b", away: true, hint: "zone2", nodeHint: "node2"}}},
		{name: "dying", endpoints: []endpoint{{pod: "a", terminating: true, unready: true}}},
		{name: "twice", endpoints: []endpoint{here("c"), there("b")}, twice: true},
		{name: "inside", change: internalLocal, endpoints: three()},
		{name: "insideaway", change: internalLocal, endpoints: []endpoint{there("b")}},
		{name: "insideleaving", change: internalLocal, endpoints: []endpoint{{pod: "a", terminating: true}, there("b")}},
		{name: "insideempty", change: internalLocal},
		{name: "sticky", endpoints: three(), change: all(nodePort(30000), func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP })},
		{name: "port", change: nodePort(30001), endpoints: three()},
		{name: "portempty", change: nodePort(30002)},
		{name: "portlocal", change: all(nodePort(30003), externalLocal), endpoints: three()},
		{name: "portaway", change: all(nodePort(30004), externalLocal), endpoints: []endpoint{there("b")}},
		{name: "portleaving", change: all(nodePort(30005), externalLocal), endpoints: []endpoint{{pod: "a", terminating: true}, there("b")}},
		{name: "portboth", change: all(nodePort(30006), externalLocal, internalLocal), endpoints: three()},
		{name: "external", endpoints: three(), change: externalIPs(100)},
		{name: "externalempty", change: externalIPs(101)},
		{name: "externalaway", endpoints: []endpoint{there("b")}, change: all(nodePort(30007), externalLocal, externalIPs(102))},
		{name: "balanced", change: balanced(30010), endpoints: three(), balancers: ingress(10, vip)},
		{name: "ranged", change: balanced(30011, "192.168.1.0/24", "fd01::/64"), endpoints: three(), balancers: ingress(11, nil)},
		{name: "closed", change: balanced(30012, "198.51.100.0/24", "2001:db8:1::/48"), endpoints: three(), balancers: ingress(12, vip)},
		{name: "proxied", change: balanced(30013), endpoints: three(), balancers: ingress(13, proxied)},
		{name: "balancedlocal", change: all(balanced(30014), externalLocal, checked("balancedlocal")), endpoints: three(), balancers: ingress(14, vip)},
		{name: "balancedempty", change: balanced(30015), balancers: ingress(15, vip)},
		{name: "rangedempty", change: balanced(30016, "192.168.1.0/24", "fd01::/64"), balancers: ingress(16, vip)},
		{name: "closedempty", change: balanced(30017, "198.51.100.0/24", "2001:db8:1::/48"), balancers: ingress(17, vip)},
		{name: "rangedpods", change: balanced(30018, "10.0.2.0/24", "10.0.1.1/32", "fd02:0:0:2::/64", "fd02:0:0:1::1/128"), endpoints: three(), balancers: ingress(18, vip)},
		{name: "balancedaway", change: all(balanced(30019), externalLocal, checked("balancedaway")), endpoints: []endpoint{there("b"), there("c")}, balancers: ingress(19, vip)},
		{name: "balancedleaving", change: all(balanced(30021), externalLocal, checked("balancedleaving")), endpoints: []endpoint{{pod: "a", terminating: true}, there("b")}, balancers: ingress(21, vip)},
		{name: "sctp", change: sctp, endpoints: three()},
		{name: "foreign", endpoints: three(), change: func(s *corev1.Service) {
			s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "somebody-else"}
		}},
		{name: "last", endpoints: []endpoint{here("a")}},
	}
}

// write makes the objects of a fixture. Its cluster IPs end with 100+i.
func (f *fixture) write(ctx context.Context, t *testing.T, c client.Client, i int, addrs map[string][2]string) {
	t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: f.name},
		Spec: corev1.ServiceSpec{
			ClusterIP: clusterIPs(i)[0], ClusterIPs: clusterIPs(i), IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
			Ports: []corev1.ServicePort{{Name: "tcp", Port: 80, Protocol: corev1.ProtocolTCP}, {Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP}},
		},
	}
	if f.change != nil {
		f.change(s)
	}
	if err := c.Create(ctx, s); err != nil {
		t.Fatalf("%s: %v", f.name, err)
	}
	if f.balancers != nil {
		s.Status.LoadBalancer.Ingress = f.balancers
		if err := c.Status().Update(ctx, s); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
	}
	for family, kind := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: s.Namespace, Name: fmt.Sprint(f.name, "-", family), Labels: map[string]string{discoveryv1.LabelServiceName: f.name}},
			AddressType: kind,
			Ports: []discoveryv1.EndpointPort{
				{Name: new("tcp"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)},
				{Name: new("udp"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolUDP)},
				{Name: new("sctp"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolSCTP)},
			},
		}
		for _, e := range f.endpoints {
			slice.Endpoints = append(slice.Endpoints, e.object(addrs[e.pod][family]))
		}
		if err := c.Create(ctx, slice); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
		if f.twice {
			again := slice.DeepCopy()
			again.ObjectMeta = metav1.ObjectMeta{Namespace: s.Namespace, Name: slice.Name + "-again", Labels: slice.Labels}
			if err := c.Create(ctx, again); err != nil {
				t.Fatalf("%s: %v", f.name, err)
			}
		}
	}
}

func (e endpoint) object(addr string) discoveryv1.Endpoint {
	out := discoveryv1.Endpoint{
		Addresses: []string{addr}, NodeName: new(nodeName), Zone: new(zone),
		Conditions: discoveryv1.EndpointConditions{
			Ready: new(!e.unready && !e.terminating), Serving: new(!e.unready), Terminating: new(e.terminating),
		},
	}
	if e.away {
		out.NodeName, out.Zone = new("node2"), new("zone2")
	}
	if e.hint != "" {
		out.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: e.hint}}}
	}
	if e.nodeHint != "" {
		out.Hints.ForNodes = []discoveryv1.ForNode{{Name: e.nodeHint}}
	}
	return out
}

func clusterIPs(i int) []string {
	return []string{fmt.Sprint("10.96.0.", 100+i), fmt.Sprintf("fd00:96::%x", 0x100+i)}
}
