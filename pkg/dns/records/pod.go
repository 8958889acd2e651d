package records

import "github.com/miekg/dns"

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
	if !ok {
		return noName()
	}
	if !isOfType(addr, l.q.Type) {
		return noData()
	}
	return Answer{Answer: []dns.RR{l.view.addressRecord(l.q.Name, addr)}}
}
