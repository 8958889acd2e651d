//go:build integration

package names

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// generator makes objects and questions. Its names and addresses come from small
// sets, so that they meet.
type generator struct {
	*rand.Rand
	w    *world
	made int
}

func portNames() []string { return []string{"http", "sql", "a", "dns-tcp"} }
func hostnames() []string { return []string{"host-0", "host-1", "10-2-0-1", "tcp"} }

// change makes some objects, changes some and removes some.
func (g *generator) change() {
	for i := range 2 {
		g.w.makeNamespace(fmt.Sprintf("ns-%d", g.made+i))
	}
	for range 12 {
		g.makeService()
	}
	for range 16 {
		g.makeSlice()
	}
	for _, key := range slices.Sorted(maps.Keys(g.w.slices)) {
		switch slice := g.w.slices[key]; {
		case !g.isOurs(slice.Namespace) || g.IntN(3) > 0:
		case g.IntN(3) == 0:
			g.w.deleteSlice(slice)
		default:
			slice = slice.DeepCopy()
			slice.Ports, slice.Endpoints = g.slicePorts(), g.endpoints(slice.AddressType)
			g.w.updateSlice(slice)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(g.w.services)) {
		if svc := g.w.services[key]; g.isOurs(svc.Namespace) && g.IntN(6) == 0 {
			g.w.deleteService(svc)
		}
	}
}

// isOurs reports whether the objects of a namespace are the generator's: neither
// those of the DNS Service nor those by which settle knows how far the servers are.
func (g *generator) isOurs(namespace string) bool { return strings.HasPrefix(namespace, "ns-") }

// namespace is one to put objects into.
func (g *generator) namespace() string {
	return pick(g.Rand, slices.DeleteFunc(slices.Sorted(maps.Keys(g.w.namespaces)), func(n string) bool { return !g.isOurs(n) }))
}

func (g *generator) makeService() {
	g.made++
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("svc-%d", g.made), Namespace: g.namespace()}}
	if g.IntN(12) == 0 {
		// A name that is a word of the zone, a host name or an address.
		name := pick(g.Rand, []string{"svc", "pod", "dns", "http", "tcp", "host-0", "a10-2-0-1"})
		if g.w.services[svc.Namespace+"/"+name] == nil {
			svc.Name = name
		}
	}
	// The server would take addresses by chance, which no seed repeats.
	four := netip.AddrFrom4([4]byte{10, 96, byte(2 + g.made>>8), byte(g.made)}).String()
	six := fmt.Sprintf("fd00:96::%x", 0x100+g.made)
	switch g.IntN(8) {
	case 0, 1:
		svc.Spec.Type, svc.Spec.ExternalName = corev1.ServiceTypeExternalName, g.externalName()
	case 2, 3, 4:
		svc.Spec.ClusterIP, svc.Spec.Ports = corev1.ClusterIPNone, g.ports(0)
	case 5:
		dual := corev1.IPFamilyPolicyRequireDualStack
		svc.Spec.IPFamilyPolicy, svc.Spec.ClusterIPs, svc.Spec.Ports = &dual, []string{four, six}, g.ports(1)
	case 6:
		svc.Spec.ClusterIPs, svc.Spec.Ports = []string{six}, g.ports(1)
	case 7:
		svc.Spec.ClusterIPs, svc.Spec.Ports = []string{four}, g.ports(1)
	}
	if len(svc.Spec.ClusterIPs) > 0 {
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
	}
	g.w.makeService(svc)
}

// externalName leads out of the zone, to a Service, to one of its endpoints, or to
// nothing.
func (g *generator) externalName() string {
	namespace, service := g.serviceName()
	if service == "*" {
		service = "star"
	}
	inside := service + "." + namespace + ".svc.cluster.local"
	return pick(g.Rand, []string{
		inside, inside, inside, pick(g.Rand, hostnames()) + "." + inside, inside + ".",
		"www.upstream.test", "alias.upstream.test", "four.upstream.test", "missing.upstream.test",
		namespace + ".svc.cluster.local", "10-2-0-1." + namespace + ".pod.cluster.local", "192.0.2.1", "192.0.2.1.",
	})
}

func (g *generator) ports(atLeast int) []corev1.ServicePort {
	n := atLeast + g.IntN(3)
	var out []corev1.ServicePort
	for i, name := range g.Perm(len(portNames()))[:n] {
		p := corev1.ServicePort{Name: portNames()[name], Port: int32(80 + i%2), Protocol: g.apiProtocol()}
		if n == 1 && g.IntN(3) == 0 {
			p.Name = ""
		}
		if !slices.ContainsFunc(out, func(o corev1.ServicePort) bool { return o.Port == p.Port && o.Protocol == p.Protocol }) {
			out = append(out, p)
		}
	}
	return out
}

func (g *generator) apiProtocol() corev1.Protocol {
	return pick(g.Rand, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP})
}

// makeSlice makes one of a Service or, sometimes, of one that does not exist.
func (g *generator) makeSlice() {
	g.made++
	namespace, service := g.serviceName()
	if service == "*" || !g.w.namespaces[namespace] || !g.isOurs(namespace) {
		namespace, service = g.namespace(), "nobody"
	}
	family := pick(g.Rand, []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6})
	g.w.makeSlice(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("slice-%d", g.made), Namespace: namespace, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: family, Ports: g.slicePorts(), Endpoints: g.endpoints(family),
	})
}

func (g *generator) slicePorts() []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for _, name := range g.Perm(len(portNames()))[:g.IntN(3)] {
		text, port, protocol := portNames()[name], int32(8080+g.IntN(2)), g.apiProtocol()
		if len(out) == 0 && g.IntN(4) == 0 {
			text = ""
		}
		out = append(out, discoveryv1.EndpointPort{Name: &text, Port: &port, Protocol: &protocol})
	}
	return out
}

// endpoints are a few, and now and then more than a datagram can list.
func (g *generator) endpoints(family discoveryv1.AddressType) []discoveryv1.Endpoint {
	n := g.IntN(5)
	if g.IntN(8) == 0 {
		n = 20 + g.IntN(60)
	}
	seen := map[string]bool{}
	var out []discoveryv1.Endpoint
	for range n {
		addr := g.address(family == discoveryv1.AddressTypeIPv4)
		if n > 10 {
			addr = g.manyAddress(family == discoveryv1.AddressTypeIPv4)
		}
		if seen[addr] {
			continue
		}
		seen[addr] = true
		e := discoveryv1.Endpoint{Addresses: []string{addr}, Conditions: g.conditions()}
		if g.IntN(3) == 0 {
			hostname := pick(g.Rand, hostnames())
			e.Hostname = &hostname
		}
		out = append(out, e)
	}
	return out
}

func (g *generator) conditions() discoveryv1.EndpointConditions {
	maybe := func() *bool {
		return pick(g.Rand, []*bool{nil, new(true), new(true), new(false)})
	}
	return discoveryv1.EndpointConditions{Ready: maybe(), Serving: maybe(), Terminating: maybe()}
}

// address is one of few.
func (g *generator) address(four bool) string {
	if four {
		return netip.AddrFrom4([4]byte{10, 2, byte(g.IntN(2)), byte(g.IntN(10))}).String()
	}
	return pick(g.Rand, []string{"fd00::", "fd00::1", "fd00:0:0:1::", "fd00::2:0:0:3", "fd00:1:2:3:4:5:6:7", "2001:db8::a", "::7", "1::"})
}

func (g *generator) manyAddress(four bool) string {
	if four {
		return netip.AddrFrom4([4]byte{10, 3, byte(g.IntN(4)), byte(g.IntN(256))}).String()
	}
	return netip.AddrFrom16([16]byte{0xfd, 1, 14: byte(g.IntN(4)), 15: byte(g.IntN(256))}).String()
}
