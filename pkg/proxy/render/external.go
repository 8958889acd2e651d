package render

import (
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// external puts into the fragment what the port has beside cluster IPs. The mark for
// masquerading is on when a packet gets to these rules.
func (p *port) external() {
	if len(p.outside().targets) > 0 || p.externalLocal && p.any() {
		p.translated()
	}
	refusal := ""
	switch {
	case !p.any():
		refusal = p.comment(p.name.String()+" has no endpoints") + p.reject()
	case len(p.outside().targets) == 0:
		refusal = p.comment(p.name.String()+" has no local endpoints") + " -j DROP"
	}
	for _, a := range p.fronts.externals {
		if refusal != "" {
			p.refuse(a, refusal)
		}
	}
	for _, a := range p.fronts.balancers {
		if p.any() && len(p.fronts.ranges) > 0 {
			p.refuse(a, p.comment(p.name.String()+" is not for this source")+" -j DROP")
		} else if refusal != "" {
			p.refuse(a, refusal)
		}
	}
	if p.port.NodePort != 0 && refusal != "" {
		key := portKey(p.proto, p.port.NodePort)
		p.add(p.trees.refusedPorts, key, "", ruleset.Rule(portSpace{}.match(key)+refusal))
	}
}

func (p *port) outside() *path {
	if p.externalLocal {
		return p.local
	}
	return p.cluster
}

// translated adds the rules that lead to endpoints.
func (p *port) translated() {
	to := p.cluster.to
	if p.externalLocal {
		chain := p.localPolicy()
		p.out.chains = append(p.out.chains, chain)
		to = goTo(chain)
	}
	key := func(a netip.Addr) string { return addressKey(a) + portKey(p.proto, p.port.Port) }
	for _, a := range p.fronts.externals {
		p.add(p.trees.externals, key(a), "spec.externalIPs", to(p.at(a), p.comment(p.name.String()+" external IP"))...)
	}
	limited := to
	if len(p.fronts.balancers) > 0 && len(p.fronts.ranges) > 0 {
		chain := p.firewall(to)
		p.out.chains = append(p.out.chains, chain)
		limited = goTo(chain)
	}
	for _, a := range p.fronts.balancers {
		p.add(p.trees.externals, key(a), "status.loadBalancer.ingress", limited(p.at(a), p.comment(p.name.String()+" load balancer IP"))...)
	}
	if p.port.NodePort != 0 {
		// Source ranges are not for node ports, as with kube-proxy.
		k := portKey(p.proto, p.port.NodePort)
		p.add(p.trees.ports, k, "spec.ports.nodePort", to(portSpace{}.match(k), p.comment(p.name.String()+" node port"))...)
	}
}

// goTo returns what leads to a chain.
func goTo(c *ruleset.Chain) func(match, comment string) []ruleset.Rule {
	return func(match, comment string) []ruleset.Rule {
		return []ruleset.Rule{ruleset.Rule(match + comment + " -g " + c.Name)}
	}
}

// localPolicy returns the chain for the external traffic policy Local. What a
// pod or a process of the node sends is spread over the whole cluster, as if it had gone
// out to a load balancer and come back in. What comes from outside goes to the
// endpoints of this node only and keeps its source. It is dropped in filter if
// there are none.
func (p *port) localPolicy() *ruleset.Chain {
	chain := &ruleset.Chain{Key: ruleset.Key{Table: ruleset.NAT, Name: ruleset.HashedName("EXT-", p.name.String()+p.proto)}}
	add := func(rules ...ruleset.Rule) { chain.Rules = append(chain.Rules, rules...) }
	proto := "-p " + p.proto
	add(ruleset.Rule(proto + p.comment(p.name.String()+" from outside, local endpoints only") + " " + p.clearMark()))
	if len(p.cluster.targets) > 0 {
		for _, source := range p.pods {
			add(p.cluster.to(proto+" "+source, "")...)
		}
		// The address of a load balancer is often one of the node too, and then the
		// source of what the node sends to it.
		const own = " -m addrtype --src-type LOCAL"
		add(ruleset.Rule(proto + own + " " + p.setMark()))
		add(p.cluster.to(proto+own, "")...)
	}
	if len(p.local.targets) > 0 {
		add(p.local.to(proto, "")...)
	}
	return chain
}

// firewall returns the chain that lets in who may use the load balancer. What
// gets to its end is not translated, and dropped in filter.
func (p *port) firewall(to func(match, comment string) []ruleset.Rule) *ruleset.Chain {
	chain := &ruleset.Chain{Key: ruleset.Key{Table: ruleset.NAT, Name: ruleset.HashedName("FW-", p.name.String()+p.proto)}}
	comment := p.comment(p.name.String() + " source ranges")
	allow := func(source string) {
		chain.Rules = append(chain.Rules, to("-p "+p.proto+" -s "+source, comment)...)
		comment = ""
	}
	node := false
	for _, r := range p.fronts.ranges {
		allow(r.String())
		node = node || slices.ContainsFunc(p.node.Addrs, r.Contains)
	}
	if node {
		// Where the address of the load balancer is one of the node too, what the
		// node sends to it has that as its source.
		for _, a := range p.fronts.balancers {
			allow(hostPrefix(a))
		}
	}
	chain.Rules = append(chain.Rules, ruleset.Rule(p.clearMark()))
	return chain
}
