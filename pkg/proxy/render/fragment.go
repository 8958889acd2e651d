package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// fragment is what one Service contributes to the rules of a family. It depends
// on that Service and the facts alone, and is made anew when the Service is
// another object.
type fragment struct {
	chains   []*ruleset.Chain // its own, one per port
	entries  []entry          // its rules in chains that Services share
	problems []model.Problem
}

// fragment never fails: what cannot be rendered is left out and named.
func (f *facts) fragment(svc *model.Service) *fragment {
	out := &fragment{}
	if svc.Headless || svc.ExternalName != "" {
		return out
	}
	vips := f.vips(svc, out)
	if len(vips) == 0 {
		return out
	}
	if !safe(svc.Namespace) || !safe(svc.Name.Name) {
		out.problem("metadata.name", "has a character that no rule may contain")
		return out
	}
	if svc.OtherProxy {
		out.entries = f.leaveAlone(svc.Name, vips)
		return out
	}
	for i, port := range svc.Ports {
		f.port(svc, i, port, vips, out)
	}
	return out
}

// vips returns the cluster IPs of the family.
func (f *facts) vips(svc *model.Service, out *fragment) []netip.Addr {
	var vips []netip.Addr
	for i, a := range svc.ClusterIPs {
		switch {
		case !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.Is4In6():
			// Said once, by the family that is always there.
			if f.family == ruleset.IPv4 {
				out.problem(fmt.Sprintf("spec.clusterIPs[%d]", i), fmt.Sprintf("%q is no address of a Service", a))
			}
		case f.family.Has(a):
			vips = append(vips, a)
		}
	}
	return vips
}

func (f *facts) port(svc *model.Service, i int, port model.ServicePort, vips []netip.Addr, out *fragment) {
	field := fmt.Sprintf("spec.ports[%d]", i)
	proto, ok := protocol(port.Protocol)
	switch {
	case !ok:
		out.problem(field+".protocol", fmt.Sprintf("%q is none that can be proxied", port.Protocol))
		return
	case port.Port == 0:
		out.problem(field+".port", "is 0")
		return
	case port.Name != "" && !safe(port.Name):
		out.problem(field+".name", "has a character that no rule may contain")
		return
	}
	name := model.ServicePortName{Name: svc.Name, Port: port.Name, Protocol: port.Protocol}
	targets := f.targets(svc, field, port, vips[0], out)
	if f.listenedAt(vips, port.Port) {
		targets = f.elsewhere(targets)
	}
	chain := f.serviceChain(name, proto, targets)
	out.chains = append(out.chains, chain)
	for _, vip := range vips {
		out.entries = append(out.entries, f.clusterIP(name, proto, vip, port.Port, chain.Name)...)
	}
	if port.NodePort != 0 {
		out.entries = append(out.entries, f.nodePort(name, proto, port.NodePort, chain.Name, len(targets) > 0)...)
	}
	for _, t := range targets {
		if f.local(t.Endpoint) {
			out.entries = append(out.entries, f.hairpin(name, t.Addr()))
		}
	}
}

// targets returns the usable targets of the family that a rule can name.
func (f *facts) targets(svc *model.Service, field string, port model.ServicePort, like netip.Addr, out *fragment) []model.Target {
	usable := model.Usable(svc.Targets(port, like))
	kept := usable[:0]
	for _, t := range usable {
		if a := t.Addr(); !f.family.Has(a) || a.Zone() != "" || a.IsUnspecified() || t.Port() == 0 {
			out.problem(field, fmt.Sprintf("endpoint %q is none that packets can go to", t.AddrPort))
			continue
		}
		kept = append(kept, t)
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

func (out *fragment) problem(field, message string) {
	out.problems = append(out.problems, model.Problem{Field: field, Message: message})
}

// serviceChain returns the chain of a Service port: each endpoint gets an equal
// share, because rule i of n takes one of n-i+1 of what the earlier ones left.
func (f *facts) serviceChain(name model.ServicePortName, proto string, targets []model.Target) *ruleset.Chain {
	chain := &ruleset.Chain{
		Key:   ruleset.Key{Table: ruleset.NAT, Name: ruleset.HashedName("SVC-", name.String()+proto)},
		Rules: make([]ruleset.Rule, 0, len(targets)),
	}
	for i, t := range targets {
		random := ""
		if left := len(targets) - i; left > 1 && f.Kernel.Statistic {
			random = fmt.Sprintf(" -m statistic --mode random --probability %0.10f", 1/float64(left))
		}
		chain.Rules = append(chain.Rules, ruleset.Rule("-p "+proto+random+" -j DNAT --to-destination "+t.AddrPort.String()))
	}
	return chain
}

// protocol returns the name that iptables has for a protocol.
func protocol(p model.Protocol) (string, bool) {
	switch p {
	case model.TCP, model.UDP, model.SCTP:
		return strings.ToLower(string(p)), true
	}
	return "", false
}

// safe reports whether a name can stand in a rule. The API allows nothing else;
// but one name with a line break in it would be a rule of somebody's own.
func safe(name string) bool {
	if name == "" || len(name) > 63 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

func hostPrefix(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }
