package render

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// The chains that are always there, or are entered from the kernel's own chains.
const (
	services     = ruleset.Prefix + "SERVICES"
	nodePorts    = ruleset.Prefix + "NODEPORTS"
	postrouting  = ruleset.Prefix + "POSTROUTING"
	masquerade   = ruleset.Prefix + "MASQUERADE"
	hairpin      = ruleset.Prefix + "HAIRPIN"
	offCluster   = ruleset.Prefix + "OFF-CLUSTER"
	forward      = ruleset.Prefix + "FORWARD"
	invalid      = ruleset.Prefix + "INVALID"
	nobody       = ruleset.Prefix + "NOBODY"
	healthChecks = ruleset.Prefix + "HEALTH-CHECKS"
	firewall     = ruleset.Prefix + "FIREWALL"
	listenersIn  = ruleset.Prefix + "LISTENERS-IN"
	listenersOut = ruleset.Prefix + "LISTENERS-OUT"
)

// fixed returns the chains that depend on no Service.
func (f *facts) fixed() []*ruleset.Chain {
	out := []*ruleset.Chain{
		{Key: ruleset.Key{Table: ruleset.NAT, Name: postrouting}, Rules: []ruleset.Rule{
			ruleset.Rule("-m mark --mark " + f.mark() + f.comment("off-cluster and node port traffic") + " -j " + masquerade),
			ruleset.Rule("-m conntrack --ctstate DNAT" + f.comment("endpoints that reach themselves") + " -j " + hairpin),
		}},
		{Key: ruleset.Key{Table: ruleset.NAT, Name: masquerade}, Rules: f.masqueradeRules()},
		{Key: ruleset.Key{Table: ruleset.Filter, Name: forward}, Rules: f.forwardRules()},
	}
	if len(f.pods) > 1 && !f.MasqueradeAll {
		out = append(out, &ruleset.Chain{Key: ruleset.Key{Table: ruleset.NAT, Name: offCluster}, Rules: f.offClusterRules()})
	}
	if len(f.ServiceCIDRs) > 0 {
		out = append(out, &ruleset.Chain{Key: ruleset.Key{Table: ruleset.Filter, Name: nobody}, Rules: f.nobodyRules()})
	}
	// A kernel that is told to route 127.0.0.0/8, so that NodePorts can be served
	// there, would also take packets to it from a neighbour (CVE-2020-8558).
	if f.LocalhostNodePorts {
		out = append(out, &ruleset.Chain{Key: ruleset.Key{Table: ruleset.Filter, Name: firewall}, Rules: []ruleset.Rule{
			ruleset.Rule("! -s 127.0.0.0/8 -d 127.0.0.0/8" + f.comment("not from elsewhere to localhost") +
				" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"),
		}})
	}
	if len(f.listeners) > 0 {
		out = append(out, f.listenerChains()...)
	}
	return out
}

// masqueradeRules take the mark off before the packet goes on, so that it is not
// masqueraded again if it passes through the node's stack twice.
func (f *facts) masqueradeRules() []ruleset.Rule {
	target := "-j MASQUERADE"
	if f.Kernel.RandomFully {
		target += " --random-fully"
	}
	return []ruleset.Rule{ruleset.Rule(f.clearMark()), ruleset.Rule(target)}
}

func (f *facts) forwardRules() []ruleset.Rule {
	var out []ruleset.Rule
	if f.Kernel.DropInvalid {
		out = append(out, ruleset.Rule("-p tcp -m conntrack --ctstate INVALID"+f.comment("not translated, resets connections")+" -j "+invalid))
	}
	return append(out,
		ruleset.Rule("-m mark --mark "+f.mark()+f.comment("forward what will be masqueraded")+" -j ACCEPT"),
		ruleset.Rule("-m conntrack --ctstate RELATED,ESTABLISHED"+f.comment("and all that follows")+" -j ACCEPT"))
}

// invalidHead are the rules for packets that may be of Services by their range: those that
// come from pods, and those to cluster IPs. Other people's connections may take one
// way there and another one back.
func (f *facts) invalidHead() []ruleset.Rule {
	var out []ruleset.Rule
	for _, p := range f.podRanges {
		out = append(out, ruleset.Rule("-s "+p.String()+" -j DROP"))
	}
	for _, p := range f.ServiceCIDRs {
		out = append(out, ruleset.Rule("-d "+p.String()+" -j DROP"))
	}
	return out
}

// near returns what an endpoint has a rule for of those that drop what is invalid:
// nothing if it is in a range of pods; the 256 addresses around it, or the /64, if
// it is on a node, as there are others there; and itself only if nobody knows what it is.
func (f *facts) near(e *model.Endpoint) (netip.Prefix, bool) {
	if slices.ContainsFunc(f.podRanges, func(r netip.Prefix) bool { return r.Contains(e.Addr) }) {
		return netip.Prefix{}, false
	}
	bits := e.Addr.BitLen()
	if e.Node != "" {
		bits = map[ruleset.Family]int{ruleset.IPv4: 24, ruleset.IPv6: 64}[f.family]
	}
	return netip.PrefixFrom(e.Addr, bits).Masked(), true
}

// nobodyRules reject what is meant for a Service that does not exist, or does
// not offer that port, or has no endpoints. The kernel sends a host about one ICMP
// message a second, so of many clients on it most would wait for their
// time-outs; a reset has no such limit.
func (f *facts) nobodyRules() []ruleset.Rule {
	const why = "no Service has this address and port, or it has no endpoints"
	return []ruleset.Rule{
		ruleset.Rule("-p tcp" + f.comment(why) + " -j REJECT --reject-with tcp-reset"),
		ruleset.Rule("-j REJECT"),
	}
}

// listenerChains keep packets to and from a local listener out of connection
// tracking, and with it out of translation. The reply has to be named too: it
// would leave an entry that takes the client's next query to the local
// address even when nobody listens there any more.
func (f *facts) listenerChains() []*ruleset.Chain {
	in := &ruleset.Chain{Key: ruleset.Key{Table: ruleset.Raw, Name: listenersIn}}
	out := &ruleset.Chain{Key: ruleset.Key{Table: ruleset.Raw, Name: listenersOut}}
	for _, l := range f.listeners {
		for _, proto := range []string{"udp", "tcp"} {
			host := hostPrefix(l.Addr())
			in.Rules = append(in.Rules, ruleset.Rule(fmt.Sprintf(
				"-d %s -p %s -m %s --dport %d -m socket -j CT --notrack", host, proto, proto, l.Port())))
			out.Rules = append(out.Rules, ruleset.Rule(fmt.Sprintf(
				"-s %s -p %s -m %s --sport %d -j CT --notrack", host, proto, proto, l.Port())))
		}
	}
	return []*ruleset.Chain{in, out}
}

// hooks returns the rules that lead into Signpost's chains. They are inserted in
// this order, each at the front.
func (f *facts) hooks() []ruleset.Hook {
	const isNew = "-m conntrack --ctstate NEW"
	out := []ruleset.Hook{
		{Chain: ruleset.Key{Table: ruleset.NAT, Name: "POSTROUTING"}, Target: postrouting},
		{Chain: ruleset.Key{Table: ruleset.NAT, Name: "PREROUTING"}, Target: services},
		{Chain: ruleset.Key{Table: ruleset.NAT, Name: "OUTPUT"}, Target: services},
		{Chain: ruleset.Key{Table: ruleset.Filter, Name: "FORWARD"}, Target: forward},
		{Chain: ruleset.Key{Table: ruleset.Filter, Name: "FORWARD"}, Match: isNew, Target: services},
		{Chain: ruleset.Key{Table: ruleset.Filter, Name: "INPUT"}, Match: isNew, Target: services},
		{Chain: ruleset.Key{Table: ruleset.Filter, Name: "OUTPUT"}, Match: isNew, Target: services},
	}
	if f.LocalhostNodePorts {
		out = append(out,
			ruleset.Hook{Chain: ruleset.Key{Table: ruleset.Filter, Name: "INPUT"}, Target: firewall},
			ruleset.Hook{Chain: ruleset.Key{Table: ruleset.Filter, Name: "OUTPUT"}, Target: firewall})
	}
	if len(f.listeners) > 0 {
		out = append(out,
			ruleset.Hook{Chain: ruleset.Key{Table: ruleset.Raw, Name: "PREROUTING"}, Target: listenersIn},
			ruleset.Hook{Chain: ruleset.Key{Table: ruleset.Raw, Name: "OUTPUT"}, Target: listenersOut})
	}
	return out
}
