package render

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// port is one port of a Service on its way into rules.
type port struct {
	*facts
	trees  *trees
	name   model.ServicePortName
	proto  string
	port   model.ServicePort
	fronts frontEnds
	out    *fragment
	// internalLocal and externalLocal are the Service's traffic policies.
	internalLocal, externalLocal bool
	cluster, local               *path
}

func (f *facts) newPort(t *trees, svc *model.Service, field string, sp model.ServicePort, fronts frontEnds, out *fragment) *port {
	proto, _ := protocol(sp.Protocol)
	p := &port{
		facts: f, trees: t, proto: proto, port: sp, fronts: fronts, out: out,
		name:          model.ServicePortName{Name: svc.Name, Port: sp.Name, Protocol: sp.Protocol},
		internalLocal: svc.InternalLocal, externalLocal: svc.ExternalLocal,
	}
	chosen := svc.Choose(sp, fronts.vips[0], &f.node)
	cluster := f.reachable(field, chosen.Cluster, out)
	local := f.reachable("", chosen.Local, out)
	if f.listenedAt(fronts.vips, sp.Port) {
		cluster = f.elsewhere(cluster)
	}
	clusterUses, localUses := p.uses()
	p.cluster = f.path("SVC-", p.name, proto, cluster, clusterUses, svc.AffinityTimeout)
	p.local = f.path("SVL-", p.name, proto, local, localUses, svc.AffinityTimeout)
	return p
}

// reachable returns the targets that a rule can name; field is what to name for
// the others, if anything.
func (f *facts) reachable(field string, targets []model.Target, out *fragment) []model.Target {
	var kept []model.Target
	for _, t := range targets {
		if a := t.Addr(); f.family.Has(a) && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast() && t.Port() != 0 {
			kept = append(kept, t)
		} else if field != "" {
			out.problem(field, fmt.Sprintf("endpoint %q is none that packets can go to", t.AddrPort))
		}
	}
	return kept
}

// listenedAt reports whether a process of this node may listen at the port of one
// of the addresses.
func (f *facts) listenedAt(vips []netip.Addr, port uint16) bool {
	return slices.ContainsFunc(f.listeners, func(l netip.AddrPort) bool {
		return l.Port() == port && slices.Contains(vips, l.Addr())
	})
}

// elsewhere leaves out the targets on the node itself, if there are others. Rules
// get packets to a local listener only when it is not there: then whoever
// should listen has died, and with it nobody is left who would take it out of
// the rules.
func (f *facts) elsewhere(targets []model.Target) []model.Target {
	others := slices.DeleteFunc(slices.Clone(targets), func(t model.Target) bool {
		return t.Endpoint.Node == f.node.Name || slices.Contains(f.node.Addrs, t.Addr())
	})
	if len(others) == 0 {
		return targets
	}
	return others
}

// fromOutside returns how many front ends the port has beside cluster IPs.
func (p *port) fromOutside() int {
	n := len(p.fronts.externals) + len(p.fronts.balancers)
	if p.port.NodePort != 0 {
		n++
	}
	return n
}

// uses returns how often the paths will be named.
func (p *port) uses() (cluster, local int) {
	if p.internalLocal {
		local = len(p.fronts.vips)
	} else {
		cluster = len(p.fronts.vips)
	}
	outside := p.fromOutside()
	if len(p.fronts.balancers) > 0 {
		outside += len(p.fronts.ranges)
	}
	switch {
	case p.fromOutside() == 0:
	case p.externalLocal:
		local++
		cluster += 1 + len(p.pods)
	default:
		cluster += outside
	}
	return cluster, local
}

func (p *port) internal() *path {
	if p.internalLocal {
		return p.local
	}
	return p.cluster
}

// render puts the port's chains and entries into the fragment.
func (p *port) render() {
	p.clusterIPs()
	if p.fromOutside() > 0 {
		p.external()
	}
	p.out.chains = append(p.out.chains, p.cluster.chains()...)
	p.out.chains = append(p.out.chains, p.local.chains()...)
	p.endpoints()
}

// any reports whether there are endpoints somewhere.
func (p *port) any() bool { return len(p.cluster.targets)+len(p.local.targets) > 0 }

func (p *port) clusterIPs() {
	for _, vip := range p.fronts.vips {
		key := addressKey(vip) + portKey(p.proto, p.port.Port)
		if len(p.internal().targets) > 0 {
			p.add(p.trees.clusterIP(p.facts, vip), key, "spec.clusterIPs", p.internal().to(p.at(vip), p.comment(p.name.String()))...)
			continue
		}
		if p.any() {
			p.refuse(vip, p.comment(p.name.String()+" has no local endpoints")+" -j DROP")
		} else if p.serviceCIDR(vip) < 0 {
			p.refuse(vip, p.comment(p.name.String()+" has no endpoints")+p.reject())
		}
	}
}

// at matches packets to the port at an address.
func (p *port) at(a netip.Addr) string {
	return addressSpace{p.family, "-d"}.match(addressKey(a) + portKey(p.proto, p.port.Port))
}

func (p *port) add(t *tree, key, field string, rules ...ruleset.Rule) {
	p.out.entries = append(p.out.entries, &entry{tree: t, key: key, rules: rules, owner: p.name, field: field})
}

// refuse adds a rule for what arrives at an address and was not translated.
func (p *port) refuse(a netip.Addr, target string) {
	match := p.at(a)
	if slices.Contains(p.listeners, netip.AddrPortFrom(a, p.port.Port)) {
		// The node may have the address, and then either a socket there or a
		// kernel that rejects without being told.
		match += " -m addrtype ! --dst-type LOCAL"
	}
	p.add(p.trees.refusedIP(p.facts, a), addressKey(a)+portKey(p.proto, p.port.Port), "", ruleset.Rule(match+target))
}

// reject returns the target that tells a client that nobody is there; for
// the reset see nobodyRules.
func (p *port) reject() string {
	if p.proto == "tcp" {
		return " -j REJECT --reject-with tcp-reset"
	}
	return " -j REJECT"
}

// endpoints adds what is needed because of who the endpoints are.
func (p *port) endpoints() {
	seen, blocks := map[netip.Addr]bool{}, map[netip.Prefix]bool{}
	for _, t := range slices.Concat(p.cluster.targets, p.local.targets) {
		a := t.Addr()
		if seen[a] {
			continue
		}
		seen[a] = true
		if host := hostPrefix(a); p.isLocal(t.Endpoint) {
			// A packet that it sent and that came back to it needs another
			// source, as its answer would not pass through the node.
			p.add(p.trees.hairpins, addressKey(a), "", ruleset.Rule("-s "+host+" -d "+host+" -j "+masquerade))
		}
		if p.trees.invalids == nil || p.proto != "tcp" {
			continue
		}
		if block, ok := p.near(t.Endpoint); ok && !blocks[block] {
			blocks[block] = true
			p.add(p.trees.invalids, addressKey(a)[:block.Bits()/4], "", ruleset.Rule("-s "+block.String()+" -j DROP"))
		}
	}
}
