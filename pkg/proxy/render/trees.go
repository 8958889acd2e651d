package render

import (
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// trees are the chains that Services share.
type trees struct {
	// clusterIPs is for cluster IPs by the ranges that they come from, and others for
	// those outside of all known ranges. externals is for external and load
	// balancer IPs, ports for NodePorts; all in nat.
	clusterIPs []*tree
	others     *tree
	externals  *tree
	ports      *tree
	// hairpins is for local endpoints, in nat.
	hairpins *tree
	// refusedIPs is for what gets to filter untranslated and must not go on, by
	// the ranges of cluster IPs, and refused for all other addresses.
	refusedIPs   []*tree
	refused      *tree
	refusedPorts *tree
	healthChecks *tree
	// invalids is for where endpoints are, beside the pod ranges; nil if not needed.
	invalids *tree
}

func (f *facts) newTrees() *trees {
	mark, unmark := []ruleset.Rule{ruleset.Rule(f.setMark())}, []ruleset.Rule{ruleset.Rule(f.clearMark())}
	offCluster, onCluster := f.markOffCluster()
	to := addressSpace{f.family, "-d"}
	t := &trees{
		others:       newTree(tree{table: ruleset.NAT, space: to, head: offCluster, tail: onCluster}),
		externals:    newTree(tree{table: ruleset.NAT, space: to, tag: "EXT-", head: mark, tail: unmark}),
		ports:        newTree(tree{table: ruleset.NAT, space: portSpace{}, tag: "NP-", root: nodePorts, head: slices.Concat(f.noLocalhost(), mark), tail: unmark}),
		hairpins:     newTree(tree{table: ruleset.NAT, space: addressSpace{f.family, "-s"}, tag: "HP-", root: hairpin, always: true}),
		refused:      newTree(tree{table: ruleset.Filter, space: to}),
		refusedPorts: newTree(tree{table: ruleset.Filter, space: portSpace{}, tag: "NP-", root: nodePorts, head: f.noLocalhost()}),
		healthChecks: newTree(tree{table: ruleset.Filter, space: portSpace{}, tag: "HC-", root: healthChecks}),
	}
	reject := []ruleset.Rule{"-g " + nobody}
	for _, p := range f.ServiceCIDRs {
		name := to.readable("", p)
		t.clusterIPs = append(t.clusterIPs, newTree(tree{table: ruleset.NAT, space: to, root: name, head: offCluster, tail: onCluster}))
		t.refusedIPs = append(t.refusedIPs, newTree(tree{table: ruleset.Filter, space: to, root: name, tail: reject, end: reject, always: true}))
	}
	if f.Kernel.DropInvalid {
		t.invalids = newTree(tree{table: ruleset.Filter, space: addressSpace{f.family, "-s"}, tag: "INV-", root: invalid, head: f.invalidHead(), always: true})
	}
	return t
}

// all returns all trees.
func (t *trees) all() []*tree {
	out := slices.Concat(t.clusterIPs, t.refusedIPs, []*tree{
		t.others, t.externals, t.ports, t.hairpins, t.refused, t.refusedPorts, t.healthChecks,
	})
	if t.invalids != nil {
		out = append(out, t.invalids)
	}
	return out
}

// clusterIP returns the tree for a cluster IP.
func (t *trees) clusterIP(f *facts, a netip.Addr) *tree {
	if i := f.serviceCIDR(a); i >= 0 {
		return t.clusterIPs[i]
	}
	return t.others
}

// refusedIP returns the tree for an address in filter.
func (t *trees) refusedIP(f *facts, a netip.Addr) *tree {
	if i := f.serviceCIDR(a); i >= 0 {
		return t.refusedIPs[i]
	}
	return t.refused
}

// serviceCIDR returns which of the ranges the address is in; -1 for none.
func (f *facts) serviceCIDR(a netip.Addr) int {
	return slices.IndexFunc(f.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// natServices returns the chain that everything in nat starts from. NodePorts come
// last: an address of the node can be an external IP too.
func (t *trees) natServices(f *facts) *ruleset.Chain {
	c := &ruleset.Chain{Key: ruleset.Key{Table: ruleset.NAT, Name: services}}
	for i, p := range f.ServiceCIDRs {
		if !t.clusterIPs[i].empty() {
			c.Rules = append(c.Rules, ruleset.Rule("-d "+p.String()+f.comment("cluster IPs")+" -j "+t.clusterIPs[i].root))
		}
	}
	c.Rules = slices.Concat(c.Rules, t.others.entrances(), t.externals.entrances())
	if !t.ports.empty() {
		c.Rules = append(c.Rules, f.toNodePorts()...)
	}
	return c
}

// filterServices returns the same for filter. An address that the node itself has is
// somebody's even if it could be a cluster IP: a local listener's, or put there by who knows
// whom.
func (t *trees) filterServices(f *facts) *ruleset.Chain {
	c := &ruleset.Chain{Key: ruleset.Key{Table: ruleset.Filter, Name: services}}
	for i, p := range f.ServiceCIDRs {
		c.Rules = append(c.Rules, ruleset.Rule("-d "+p.String()+" -m addrtype ! --dst-type LOCAL"+f.comment("cluster IPs")+" -g "+t.refusedIPs[i].root))
	}
	c.Rules = append(c.Rules, t.refused.entrances()...)
	if !t.healthChecks.empty() {
		c.Rules = append(c.Rules, "-p tcp -m addrtype --dst-type LOCAL -j "+healthChecks)
	}
	if !t.refusedPorts.empty() {
		c.Rules = append(c.Rules, f.toNodePorts()...)
	}
	return c
}

// toNodePorts are the rules that take packets to the node itself.
func (f *facts) toNodePorts() []ruleset.Rule {
	local := "-m addrtype --dst-type LOCAL" + f.comment("node ports") + " -j " + nodePorts
	if len(f.NodePortAddresses) == 0 && !f.NodePortPrimary {
		return []ruleset.Rule{ruleset.Rule(local)}
	}
	var out []ruleset.Rule
	for _, p := range f.NodePortAddresses {
		out = append(out, ruleset.Rule("-d "+p.String()+" "+local))
	}
	return out
}

// noLocalhost excludes addresses of the loopback from NodePorts. IPv6 has no
// route_localnet: a translated packet from ::1 could not leave the node.
func (f *facts) noLocalhost() []ruleset.Rule {
	switch {
	case f.family == ruleset.IPv6:
		return []ruleset.Rule{"-d ::1/128 -j RETURN"}
	case !f.LocalhostNodePorts:
		return []ruleset.Rule{"-d 127.0.0.0/8 -j RETURN"}
	}
	return nil
}
