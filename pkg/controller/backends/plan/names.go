package plan

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/model"
)

// sourceOfNames is what no slice of the API can be called.
const sourceOfNames = "//names"

// mostAddresses is how many addresses of one family names may stand for.
const mostAddresses = 100

// FromNames returns sources that have the addresses that names stand for, one for
// each family of the Service: of other families nobody would ask. Addresses that
// the API does not take for endpoints are left out, with a problem.
func FromNames(svc *corev1.Service, addresses []netip.Addr) (out []*discoveryv1.EndpointSlice, problems []model.Problem) {
	ports, problems := portsOf(svc)
	byFamily := map[corev1.IPFamily][]netip.Addr{}
	plain := make([]netip.Addr, 0, len(addresses))
	for _, a := range addresses {
		plain = append(plain, a.Unmap())
	}
	slices.SortFunc(plain, netip.Addr.Compare)
	for _, a := range slices.Compact(plain) {
		if !isPublishable(a) {
			problems = append(problems, model.Problem{Field: a.String(), Message: "no backend can have this address"})
			continue
		}
		family := corev1.IPv6Protocol
		if a.Is4() {
			family = corev1.IPv4Protocol
		}
		byFamily[family] = append(byFamily[family], a)
	}
	for _, family := range svc.Spec.IPFamilies {
		of := byFamily[family]
		if len(of) > mostAddresses {
			problems = append(problems, model.Problem{Field: string(family), Message: fmt.Sprintf("the names have %d addresses, of which the first %d count", len(of), mostAddresses)})
			of = of[:mostAddresses]
		}
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: sourceOfNames},
			AddressType: discoveryv1.AddressType(family), Ports: ports,
		}
		for _, a := range of {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a.String()}})
		}
		out = append(out, s)
	}
	return out, problems
}

// isPublishable says what the API's validation says of the address of an endpoint.
func isPublishable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast()
}

// portsOf are the ports at which names are backends.
func portsOf(svc *corev1.Service) (out []discoveryv1.EndpointPort, problems []model.Problem) {
	out = []discoveryv1.EndpointPort{}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		n := p.Port
		switch {
		case p.TargetPort.Type == intstr.String:
			problems = append(problems, model.Problem{
				Field:   fmt.Sprintf("spec.ports[%d].targetPort", i),
				Message: fmt.Sprintf("%q is the name of a pod's port, and the backends that have DNS names are no pods", p.TargetPort.StrVal),
			})
			continue
		case p.TargetPort.IntVal != 0:
			n = p.TargetPort.IntVal
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		out = append(out, discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(protocol), Port: new(n), AppProtocol: p.AppProtocol})
	}
	return out, problems
}

// NamedIn returns the addresses that slices of ours have because names stand for
// them.
func NamedIn(ours []*discoveryv1.EndpointSlice) []netip.Addr {
	var out []netip.Addr
	for _, s := range ours {
		if s.Labels[LabelSource] != sourceID(sourceOfNames, s.AddressType) {
			continue
		}
		for i := range s.Endpoints {
			if a, ok := check.AddrOf(&s.Endpoints[i]); ok {
				out = append(out, a)
			}
		}
	}
	return out
}
