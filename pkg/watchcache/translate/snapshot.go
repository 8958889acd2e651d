package translate

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Changes is what happened since the last Snapshot. A nil map or Node means that
// nothing of that kind happened.
type Changes struct {
	// Services that are new, changed or, with a nil value, gone.
	Services map[model.Name]*model.Service
	// Namespaces that exist now (true) or no longer do.
	Namespaces map[string]bool
	Node       *model.Node
	// ServiceCIDRs are all of them as they are now, if AllServiceCIDRs is set.
	ServiceCIDRs    []netip.Prefix
	AllServiceCIDRs bool
}

// Next returns the Snapshot that follows prev, which may be nil for the first.
// It returns prev itself when the changes change nothing that this package's
// readers see: a Service whose labels were edited, say, so that no consumer is
// woken. A Service that equals its former self keeps its former pointer.
func Next(prev *model.Snapshot, ch Changes) *model.Snapshot {
	next := model.Snapshot{}
	if prev != nil {
		next = *prev
	}
	next.Generation++
	services := changedServices(&next.Services, ch.Services)
	next.Services = next.Services.With(services)
	namespaces := nextNamespaces(next.Namespaces, ch.Namespaces)
	sameNode := ch.Node == nil || reflect.DeepEqual(next.Node, *ch.Node)
	sameCIDRs := !ch.AllServiceCIDRs || slices.Equal(next.ServiceCIDRs, ch.ServiceCIDRs)
	if prev != nil && len(services) == 0 && maps.Equal(namespaces, next.Namespaces) && sameNode && sameCIDRs {
		return prev
	}
	next.Namespaces = namespaces
	if ch.Node != nil {
		next.Node = *ch.Node
	}
	if ch.AllServiceCIDRs {
		next.ServiceCIDRs = ch.ServiceCIDRs
	}
	return &next
}

func changedServices(now *model.ServiceMap, changes map[model.Name]*model.Service) map[model.Name]*model.Service {
	out := map[model.Name]*model.Service{}
	for n, s := range changes {
		had := now.Get(n)
		if s == nil && had == nil || s != nil && had != nil && reflect.DeepEqual(s, had) {
			continue
		}
		out[n] = s
	}
	return out
}

func nextNamespaces(now map[string]struct{}, changes map[string]bool) map[string]struct{} {
	if len(changes) == 0 {
		return now
	}
	out := maps.Clone(now)
	if out == nil {
		out = map[string]struct{}{}
	}
	for name, exists := range changes {
		if exists {
			out[name] = struct{}{}
		} else {
			delete(out, name)
		}
	}
	return out
}

// Objects is the state of a cluster, as far as a node cares.
type Objects struct {
	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Namespaces     []string
	ServiceCIDRs   []*networkingv1.ServiceCIDR
	// Node is this node. Nil if the cluster does not know it (yet).
	Node     *corev1.Node
	NodeName string
}

// Build makes the first Snapshot, generation 1, of the state of a cluster.
func Build(o Objects) *model.Snapshot {
	slicesOf := map[model.Name][]*discoveryv1.EndpointSlice{}
	for _, slice := range o.EndpointSlices {
		if owner, ok := OwnerOf(slice); ok {
			slicesOf[owner] = append(slicesOf[owner], slice)
		}
	}
	node := Node(o.Node, o.NodeName)
	ch := Changes{
		Services: map[model.Name]*model.Service{}, Namespaces: map[string]bool{}, Node: &node,
		ServiceCIDRs: ServiceCIDRs(o.ServiceCIDRs), AllServiceCIDRs: true,
	}
	for _, svc := range o.Services {
		ch.Services[NameOf(svc)] = Service(svc, slicesOf[NameOf(svc)])
	}
	for _, ns := range o.Namespaces {
		ch.Namespaces[ns] = true
	}
	return Next(nil, ch)
}

// Node translates the node of that name, which is nil while the API server does
// not know it. Addresses and ranges that cannot be read are left out: the
// kubelet and the node's controller wrote them, nobody can mend them by hand.
func Node(node *corev1.Node, name string) model.Node {
	out := model.Node{Name: name}
	if node == nil {
		return out
	}
	out.Zone, out.Labels = node.Labels[corev1.LabelTopologyZone], node.Labels
	for _, a := range node.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if addr, ok := parseAddr(a.Address); ok {
			out.Addrs = append(out.Addrs, addr)
		}
	}
	ranges := node.Spec.PodCIDRs
	if len(ranges) == 0 && node.Spec.PodCIDR != "" {
		ranges = []string{node.Spec.PodCIDR}
	}
	out.PodCIDRs = prefixes(ranges)
	out.Leaving = node.DeletionTimestamp != nil ||
		slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == toBeDeleted })
	return out
}

// toBeDeleted is the taint by which cluster-autoscaler announces that it removes a
// node.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// ServiceCIDRs returns the ranges that cluster IPs come from, sorted, each once.
func ServiceCIDRs(objects []*networkingv1.ServiceCIDR) []netip.Prefix {
	var out []netip.Prefix
	for _, o := range objects {
		out = append(out, prefixes(o.Spec.CIDRs)...)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

func prefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		if prefix, ok := parsePrefix(text); ok {
			out = append(out, prefix)
		}
	}
	return out
}
