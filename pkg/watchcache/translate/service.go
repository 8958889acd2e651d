package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	netutils "k8s.io/utils/net"

	"github.com/signpost-dev/signpost/pkg/model"
)

// labelProxyName asks for the Service to be left to another proxy
// (KEP-2447 and kube-proxy's --service-proxy-name).
const labelProxyName = "service.kubernetes.io/service-proxy-name"

// Service translates svc and the EndpointSlices that belong to it, as far as they
// count. The order of slices does not matter. Neither svc nor slices are changed or
// kept.
func Service(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice) *model.Service {
	return assemble(svc, endpointSlices, partOf)
}

func assemble(svc *corev1.Service, endpointSlices []*discoveryv1.EndpointSlice, partOf func(*discoveryv1.EndpointSlice) part) *model.Service {
	t := translation{out: &model.Service{
		Name: NameOf(svc),
		UID:  string(svc.UID),
	}}
	_, t.out.OtherProxy = svc.Labels[labelProxyName]
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		t.out.ExternalName = strings.TrimSuffix(svc.Spec.ExternalName, ".")
		return t.out
	}
	t.clusterIPs(svc)
	t.ports(svc)
	t.traffic(svc)
	for _, slice := range sortedByName(counting(svc, endpointSlices)) {
		p := partOf(slice)
		t.out.Groups = append(t.out.Groups, p.groups...)
		t.out.Problems = append(t.out.Problems, p.problems...)
	}
	return t.out
}

// part is what one EndpointSlice contributes to its Service.
type part struct {
	groups   []model.EndpointGroup // one, or none
	problems []model.Problem
}

func partOf(slice *discoveryv1.EndpointSlice) part {
	t := translation{out: &model.Service{}}
	t.group(slice)
	return part{t.out.Groups, t.out.Problems}
}

// NameOf returns the name of an object of the API.
func NameOf(o interface {
	GetNamespace() string
	GetName() string
}) model.Name {
	return model.Name{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// OwnerOf returns the name of the Service that a slice belongs to, and false for
// a slice that belongs to none.
func OwnerOf(slice *discoveryv1.EndpointSlice) (model.Name, bool) {
	name := slice.Labels[discoveryv1.LabelServiceName]
	return model.Name{Namespace: slice.Namespace, Name: name}, name != ""
}

func sortedByName(in []*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice {
	return slices.SortedFunc(slices.Values(in), func(a, b *discoveryv1.EndpointSlice) int {
		return cmp.Compare(a.Name, b.Name)
	})
}

// translation is one Service on its way.
type translation struct {
	out    *model.Service
	hinted map[string]*model.Hints
}

func (t *translation) problem(field, format string, args ...any) {
	t.out.Problems = append(t.out.Problems, model.Problem{Field: field, Message: fmt.Sprintf(format, args...)})
}

func (t *translation) clusterIPs(svc *corev1.Service) {
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		t.out.Headless = true
		return
	}
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 && svc.Spec.ClusterIP != "" {
		ips = []string{svc.Spec.ClusterIP}
	}
	for i, ip := range ips {
		if addr, ok := parseAddr(ip); ok {
			t.out.ClusterIPs = append(t.out.ClusterIPs, addr)
		} else {
			t.problem(fmt.Sprintf("spec.clusterIPs[%d]", i), "%q is no IP address", ip)
		}
	}
}

func (t *translation) ports(svc *corev1.Service) {
	for i, p := range svc.Spec.Ports {
		field := fmt.Sprintf("spec.ports[%d]", i)
		protocol, ok := protocolOf(p.Protocol)
		if !ok {
			t.problem(field+".protocol", "%q is not one of TCP, UDP and SCTP", p.Protocol)
			continue
		}
		port, ok := portNumber(p.Port)
		if !ok {
			t.problem(field+".port", "%d is not between 1 and 65535", p.Port)
			continue
		}
		nodePort, ok := portNumber(p.NodePort)
		if !ok && p.NodePort != 0 {
			t.problem(field+".nodePort", "%d is not between 1 and 65535", p.NodePort)
		}
		t.out.Ports = append(t.out.Ports, model.ServicePort{Name: p.Name, Protocol: protocol, Port: port, NodePort: nodePort})
	}
}

func (t *translation) group(slice *discoveryv1.EndpointSlice) {
	if slice.AddressType == discoveryv1.AddressTypeFQDN {
		return
	}
	group := model.EndpointGroup{Ports: t.groupPorts(slice), Triggered: triggered(slice)}
	for i := range slice.Endpoints {
		if e, ok := t.endpoint(slice, i); ok {
			group.Endpoints = append(group.Endpoints, e)
		}
	}
	if len(group.Endpoints) > 0 {
		t.out.Groups = append(t.out.Groups, group)
	}
}

// groupPorts leaves out a port without a number: the API gives that the meaning
// "all ports", which neither kube-proxy nor CoreDNS make anything of.
func (t *translation) groupPorts(slice *discoveryv1.EndpointSlice) []model.EndpointPort {
	var out []model.EndpointPort
	for i, p := range slice.Ports {
		if p.Port == nil {
			continue
		}
		out = t.appendPort(out, slice.Name, i, p)
	}
	return out
}

func (t *translation) appendPort(out []model.EndpointPort, slice string, i int, p discoveryv1.EndpointPort) []model.EndpointPort {
	field := fmt.Sprintf("EndpointSlice %s: ports[%d]", slice, i)
	port, ok := portNumber(*p.Port)
	if !ok {
		t.problem(field+".port", "%d is not between 1 and 65535", *p.Port)
		return out
	}
	var protocol corev1.Protocol
	if p.Protocol != nil {
		protocol = *p.Protocol
	}
	proto, ok := protocolOf(protocol)
	if !ok {
		t.problem(field+".protocol", "%q is not one of TCP, UDP and SCTP", protocol)
		return out
	}
	name := ""
	if p.Name != nil {
		name = *p.Name
	}
	return append(out, model.EndpointPort{Name: name, Protocol: proto, Port: port})
}

// endpoint takes the first address only, as kube-proxy does: the others of one
// endpoint are the same pod's, and their meaning was never settled
// (kubernetes/kubernetes#106267).
func (t *translation) endpoint(slice *discoveryv1.EndpointSlice, i int) (model.Endpoint, bool) {
	e := &slice.Endpoints[i]
	if len(e.Addresses) == 0 {
		return model.Endpoint{}, false
	}
	field := fmt.Sprintf("EndpointSlice %s: endpoints[%d].addresses[0]", slice.Name, i)
	addr, ok := parseAddr(e.Addresses[0])
	if !ok {
		t.problem(field, "%q is no IP address", e.Addresses[0])
		return model.Endpoint{}, false
	}
	if addr.Is4() != (slice.AddressType == discoveryv1.AddressTypeIPv4) {
		t.problem(field, "%s is not of the slice's address type %s", addr, slice.AddressType)
		return model.Endpoint{}, false
	}
	// A condition that is not set is read as the API says: ready and serving
	// unless told otherwise, terminating only if told so.
	c := e.Conditions
	return model.Endpoint{
		Addr:        addr,
		Ready:       c.Ready == nil || *c.Ready,
		Serving:     c.Serving == nil || *c.Serving,
		Terminating: c.Terminating != nil && *c.Terminating,
		Hostname:    deref(e.Hostname),
		Node:        interned(e.NodeName),
		Zone:        interned(e.Zone),
		Hints:       t.hints(e.Hints),
	}, true
}

// hints returns the same object for the same hints of one Service, as there are
// no more of them than nodes or zones.
func (t *translation) hints(h *discoveryv1.EndpointHints) *model.Hints {
	if h == nil || len(h.ForNodes)+len(h.ForZones) == 0 {
		return nil
	}
	out := &model.Hints{}
	for _, n := range h.ForNodes {
		out.Nodes = append(out.Nodes, interned(&n.Name))
	}
	for _, z := range h.ForZones {
		out.Zones = append(out.Zones, interned(&z.Name))
	}
	slices.Sort(out.Nodes)
	slices.Sort(out.Zones)
	key := strings.Join(out.Nodes, ",") + ";" + strings.Join(out.Zones, ",")
	if had := t.hinted[key]; had != nil {
		return had
	}
	if t.hinted == nil {
		t.hinted = map[string]*model.Hints{}
	}
	t.hinted[key] = out
	return out
}

// triggered reads a time that somebody may have written by hand: one that cannot be
// read is none.
func triggered(slice *discoveryv1.EndpointSlice) time.Time {
	at, err := time.Parse(time.RFC3339Nano, slice.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// interned makes the same few names of nodes and zones share their memory over
// all the endpoints that carry them.
func interned(s *string) string { return unique.Make(deref(s)).Value() }

// parseAddr reads addresses as the API server of old accepted them: with leading
// zeros, and IPv4 in IPv6's clothes.
func parseAddr(s string) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(strings.TrimSpace(s)))
	return addr.Unmap(), ok
}

func portNumber(n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		return 0, false
	}
	return uint16(n), true
}

// protocolOf reads no protocol as TCP, which is the API's default.
func protocolOf(p corev1.Protocol) (model.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return model.TCP, true
	case corev1.ProtocolUDP:
		return model.UDP, true
	case corev1.ProtocolSCTP:
		return model.SCTP, true
	}
	return "", false
}
