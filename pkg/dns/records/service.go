package records

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// offers reports whether a port is one that the name asks for: all are, if it
// names none. An empty name or protocol in the question stands for any.
func (r *request) offers(port string, protocol model.Protocol) bool {
	return (r.port == "" || strings.EqualFold(r.port, port)) &&
		(r.protocol == "" || strings.EqualFold(r.protocol, string(protocol)))
}

// asksForPort reports whether the name is one of the form _port._protocol.
func (r *request) asksForPort() bool { return r.port != "" || r.protocol != "" }

// clusterIP answers for a Service that has addresses of its own.
func (l lookup) clusterIP(svc *model.Service) Answer {
	matches := 0
	for _, p := range svc.Ports {
		if l.r.offers(p.Name, p.Protocol) {
			matches++
		}
	}
	switch {
	case matches == 0 && l.r.asksForPort():
		return noName()
	case l.q.Type != dns.TypeSRV:
		return Answer{Answer: l.view.addressRecords(l.q.Name, l.q.Type, svc.ClusterIPs, 0)}
	case matches == 0 || len(svc.ClusterIPs) == 0:
		return noData()
	}
	set := srvSet{view: l.view, owner: l.q.Name, weight: weight(matches * len(svc.ClusterIPs))}
	target := serviceDomain(svc.Name, l.r.zone)
	for _, p := range svc.Ports {
		if !l.r.offers(p.Name, p.Protocol) {
			continue
		}
		for _, addr := range svc.ClusterIPs {
			set.add(target, p.Port, addr)
		}
	}
	return set.answer(0)
}

// protocolNode answers for _tcp.SVC: it has no records, and exists if there is a
// named port of the protocol, because the port's name is below it.
func (l lookup) protocolNode(svc *model.Service) Answer {
	is := func(name string, p model.Protocol) bool {
		return name != "" && strings.EqualFold(l.r.endpoint[1:], string(p))
	}
	if !svc.Headless {
		if slices.ContainsFunc(svc.Ports, func(p model.ServicePort) bool { return is(p.Name, p.Protocol) }) {
			return noData()
		}
		return noName()
	}
	for _, g := range svc.Groups {
		if slices.ContainsFunc(g.Ports, func(p model.EndpointPort) bool { return is(p.Name, p.Protocol) }) &&
			slices.ContainsFunc(g.Endpoints, func(e model.Endpoint) bool { return e.Ready }) {
			return noData()
		}
	}
	return noName()
}

// endpoints answers for a headless Service, and for one endpoint of any Service.
// Without a ready endpoint that fits there is no such name.
func (l lookup) endpoints(svc *model.Service) Answer {
	if l.q.Type == dns.TypeSRV {
		return l.endpointPorts(svc)
	}
	var few [16]netip.Addr
	addrs, found := l.endpointAddrs(svc, few[:0])
	if !found {
		return noName()
	}
	return Answer{Answer: l.view.addressRecords(l.q.Name, l.q.Type, addrs, l.rotation), Turns: true}
}

// endpointAddrs appends the addresses of the type that is asked for to addrs,
// each once. found tells whether there is an endpoint, of whatever family.
func (l lookup) endpointAddrs(svc *model.Service, addrs []netip.Addr) (out []netip.Addr, found bool) {
	host := parseHost(l.r.endpoint)
	var seen addrSet
	for i := range svc.Groups {
		g := &svc.Groups[i]
		if !l.groupOffers(g) {
			continue
		}
		for j := range g.Endpoints {
			e := &g.Endpoints[j]
			if !e.Ready || !host.is(e) {
				continue
			}
			found = true
			if isOfType(e.Addr, l.q.Type) && seen.add(e.Addr, addrs) {
				addrs = append(addrs, e.Addr)
			}
		}
	}
	return addrs, found
}

// groupOffers reports whether g has a port that the name asks for. A group
// without ports fits a name that asks for none.
func (l lookup) groupOffers(g *model.EndpointGroup) bool {
	return !l.r.asksForPort() ||
		slices.ContainsFunc(g.Ports, func(p model.EndpointPort) bool { return l.r.offers(p.Name, p.Protocol) })
}

// addrSet finds duplicates: by comparison while they are few, else by a map.
type addrSet struct{ many map[netip.Addr]struct{} }

// add reports whether a is not in list, and expects that it is appended then.
func (s *addrSet) add(a netip.Addr, list []netip.Addr) bool {
	if len(list) < 16 {
		return !slices.Contains(list, a)
	}
	if s.many == nil {
		s.many = make(map[netip.Addr]struct{}, 4*len(list))
		for _, old := range list {
			s.many[old] = struct{}{}
		}
	}
	if _, dup := s.many[a]; dup {
		return false
	}
	s.many[a] = struct{}{}
	return true
}

// endpointPorts answers with one SRV record for each ready endpoint and port.
func (l lookup) endpointPorts(svc *model.Service) Answer {
	n := 0
	l.eachEndpointPort(svc, func(*model.Endpoint, uint16) { n++ })
	if n == 0 {
		return noName()
	}
	set := srvSet{view: l.view, owner: l.q.Name, weight: weight(n)}
	below := "." + serviceDomain(svc.Name, l.r.zone)
	l.eachEndpointPort(svc, func(e *model.Endpoint, port uint16) {
		if port != 0 {
			set.add(hostOf(e)+below, port, e.Addr)
		}
	})
	a := set.answer(l.rotation)
	a.Turns = true
	return a
}

// eachEndpointPort visits each ready endpoint with each port that the name asks
// for, and with port 0 where it asks for none and there is none: that makes the
// endpoint exist and, as in CoreDNS, counts for the weight.
func (l lookup) eachEndpointPort(svc *model.Service, visit func(*model.Endpoint, uint16)) {
	host := parseHost(l.r.endpoint)
	for i := range svc.Groups {
		g := &svc.Groups[i]
		for j := range g.Endpoints {
			e := &g.Endpoints[j]
			if !e.Ready || !host.is(e) {
				continue
			}
			if len(g.Ports) == 0 && !l.r.asksForPort() {
				visit(e, 0)
			}
			for _, p := range g.Ports {
				if l.r.offers(p.Name, p.Protocol) {
					visit(e, p.Port)
				}
			}
		}
	}
}

// external answers for a Service that stands for a name elsewhere.
func (l lookup) external(svc *model.Service) Answer {
	target := dns.Fqdn(svc.ExternalName)
	if l.r.endpoint != "" || l.r.asksForPort() || !isExternalName(target) {
		return noName()
	}
	cname := &dns.CNAME{Hdr: l.view.header(l.q.Name, dns.TypeCNAME), Target: target}
	switch l.q.Type {
	case dns.TypeCNAME:
		return Answer{Answer: []dns.RR{cname}}
	case dns.TypeA, dns.TypeAAAA:
		return l.follow(cname)
	}
	return noData()
}

// isExternalName rejects what cannot be written as a record: a CNAME leads to a
// name, not to an address.
func isExternalName(target string) bool {
	if _, err := netip.ParseAddr(strings.TrimSuffix(target, ".")); err == nil {
		return false
	}
	_, ok := dns.IsDomainName(target)
	return ok
}

// follow adds what cname leads to. A chain that leads nowhere within the zone,
// or in a circle, is answered like a name without data, as CoreDNS does.
func (l lookup) follow(cname *dns.CNAME) Answer {
	if l.chain++; l.chain > maxChain {
		return noData()
	}
	r, in := parse(cname.Target, lowered(cname.Target), l.view.zone)
	if !in {
		return Answer{Answer: []dns.RR{cname}, Chase: cname.Target}
	}
	l.q.Name, l.r = cname.Target, r
	a := l.answer()
	if len(a.Answer) == 0 {
		return noData()
	}
	a.Answer, a.Turns = slices.Insert(a.Answer, 0, dns.RR(cname)), false
	return a
}
