package plan

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// addressKey says which address of an Endpoints is which: two pods may share an
// address, as on a host's network.
type addressKey struct {
	ip  string
	uid types.UID
}

func addressKeyOf(a *corev1.EndpointAddress) addressKey {
	if a.TargetRef == nil {
		return addressKey{ip: a.IP}
	}
	return addressKey{a.IP, a.TargetRef.UID}
}

func (k addressKey) compare(o addressKey) int {
	return cmp.Or(strings.Compare(k.ip, o.ip), strings.Compare(string(k.uid), string(o.uid)))
}

// subsetPort is an EndpointPort by value, which can be a map's key.
type subsetPort struct {
	port           int32 // 0 stands for "no ports"
	protocol       corev1.Protocol
	name           string
	appProtocol    string
	hasAppProtocol bool
}

func subsetPortOf(p *corev1.EndpointPort) subsetPort {
	out := subsetPort{port: p.Port, protocol: p.Protocol, name: p.Name}
	if p.AppProtocol != nil {
		out.appProtocol, out.hasAppProtocol = *p.AppProtocol, true
	}
	return out
}

func (p subsetPort) compare(o subsetPort) int {
	return cmp.Or(strings.Compare(p.name, o.name), cmp.Compare(p.port, o.port),
		cmp.Compare(p.protocol, o.protocol), strings.Compare(p.appProtocol, o.appProtocol))
}

func (p subsetPort) api() corev1.EndpointPort {
	out := corev1.EndpointPort{Name: p.name, Port: p.port, Protocol: p.protocol}
	if p.hasAppProtocol {
		out.AppProtocol = &p.appProtocol
	}
	return out
}

// repack brings subsets into the one form that says the same with the fewest
// subsets: those addresses that offer the same ports are together, and all is
// sorted. An address that is ready and not ready for one port counts as not
// ready. The order differs from the stock controller's, which sorts by hash; it
// compares repacked subsets as well, so neither rewrites the other's.
func repack(subsets []corev1.EndpointSubset) []corev1.EndpointSubset {
	r := repacker{addresses: map[addressKey]corev1.EndpointAddress{}, byPort: map[subsetPort]map[addressKey]bool{}}
	for i := range subsets {
		s := &subsets[i]
		if len(s.Ports) == 0 {
			r.take(s, subsetPort{})
		}
		for j := range s.Ports {
			r.take(s, subsetPortOf(&s.Ports[j]))
		}
	}
	return r.pack()
}

type repacker struct {
	addresses map[addressKey]corev1.EndpointAddress
	byPort    map[subsetPort]map[addressKey]bool // value: ready
}

func (r *repacker) take(s *corev1.EndpointSubset, port subsetPort) {
	ready := r.byPort[port]
	if ready == nil {
		ready = map[addressKey]bool{}
		r.byPort[port] = ready
	}
	for i := range s.Addresses {
		key := r.address(&s.Addresses[i])
		if _, known := ready[key]; !known {
			ready[key] = true
		}
	}
	for i := range s.NotReadyAddresses {
		ready[r.address(&s.NotReadyAddresses[i])] = false
	}
}

func (r *repacker) address(a *corev1.EndpointAddress) addressKey {
	key := addressKeyOf(a)
	if _, known := r.addresses[key]; !known {
		r.addresses[key] = *a
	}
	return key
}

func (r *repacker) pack() []corev1.EndpointSubset {
	type set struct {
		keys  []addressKey
		ready map[addressKey]bool
		ports []subsetPort
	}
	sets := map[string]*set{}
	for _, port := range slices.SortedFunc(maps.Keys(r.byPort), subsetPort.compare) {
		ready := r.byPort[port]
		keys := slices.SortedFunc(maps.Keys(ready), addressKey.compare)
		text := signature(keys, ready)
		if sets[text] == nil {
			sets[text] = &set{keys: keys, ready: ready}
		}
		if port != (subsetPort{}) {
			sets[text].ports = append(sets[text].ports, port)
		}
	}
	sorted := slices.SortedFunc(maps.Values(sets), func(a, b *set) int {
		return slices.CompareFunc(a.ports, b.ports, subsetPort.compare)
	})
	out := make([]corev1.EndpointSubset, 0, len(sorted))
	for _, s := range sorted {
		out = append(out, r.subset(s.keys, s.ready, s.ports))
	}
	return out
}

// signature is one text for a set of addresses and their readiness.
func signature(keys []addressKey, ready map[addressKey]bool) string {
	var b strings.Builder
	for _, k := range keys {
		b.WriteString(k.ip)
		b.WriteByte('/')
		b.WriteString(string(k.uid))
		if ready[k] {
			b.WriteByte('+')
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (r *repacker) subset(keys []addressKey, ready map[addressKey]bool, ports []subsetPort) corev1.EndpointSubset {
	var out corev1.EndpointSubset
	for _, k := range keys {
		if ready[k] {
			out.Addresses = append(out.Addresses, r.addresses[k])
		} else {
			out.NotReadyAddresses = append(out.NotReadyAddresses, r.addresses[k])
		}
	}
	for _, p := range ports {
		out.Ports = append(out.Ports, p.api())
	}
	return out
}

// equalSubsets compares repacked subsets.
func equalSubsets(a, b []corev1.EndpointSubset) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.EndpointSubset) bool {
		return slices.EqualFunc(x.Addresses, y.Addresses, equalAddress) &&
			slices.EqualFunc(x.NotReadyAddresses, y.NotReadyAddresses, equalAddress) &&
			slices.EqualFunc(x.Ports, y.Ports, func(p, q corev1.EndpointPort) bool {
				return subsetPortOf(&p) == subsetPortOf(&q)
			})
	})
}

func equalAddress(a, b corev1.EndpointAddress) bool {
	return a.IP == b.IP && a.Hostname == b.Hostname && equalPtr(a.NodeName, b.NodeName) && sameRef(a.TargetRef, b.TargetRef)
}
