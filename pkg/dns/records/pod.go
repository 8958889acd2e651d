package records

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// underPod answers for 10-0-0-1.NAMESPACE.pod.ZONE, and for names below it.
func (l lookup) underPod() Answer {
	switch {
	case l.r.namespace == "":
		return noData()
	case l.view.pods == PodsDisabled || !l.namespaceExists():
		return noName()
	case l.r.service == "":
		return noData()
	}
	addr, ok := undashed(l.r.service)
	if !ok || l.view.pods == PodsVerified && !l.isPod(addr) {
		return noName()
	}
	if !isOfType(addr, l.q.Type) {
		return noData()
	}
	return Answer{Answer: []dns.RR{l.view.addressRecord(l.q.Name, addr)}}
}

// isPod reports whether a pod of the namespace is known to have the address.
func (l lookup) isPod(addr netip.Addr) bool {
	at := model.PodAddress{Namespace: l.r.namespace, Addr: addr}
	_, own := l.view.snapshot.Pods[at]
	l.basis.addPod(at, own)
	owners := l.view.reverse.owners(addr)
	l.basis.addOwners(addr, owners)
	return own || slices.ContainsFunc(owners, func(o owner) bool { return o.endpoint && o.service.Namespace == l.r.namespace })
}
