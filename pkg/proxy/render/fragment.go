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
	chains   []*ruleset.Chain // its own
	entries  []*entry         // its rules in chains that Services share
	problems []model.Problem
}

func (out *fragment) problem(field, message string) {
	out.problems = append(out.problems, model.Problem{Field: field, Message: message})
}

// fragment never fails: what cannot be rendered is left out and named.
func (f *facts) fragment(t *trees, svc *model.Service) *fragment {
	out := &fragment{}
	if svc.Headless || svc.ExternalName != "" {
		return out
	}
	vips := f.addresses("spec.clusterIPs", svc.ClusterIPs, out)
	if len(vips) == 0 {
		return out
	}
	if !safe(svc.Namespace) || !safe(svc.Name.Name) {
		out.problem("metadata.name", "has a character that no rule may contain")
		return out
	}
	if svc.OtherProxy {
		f.leaveAlone(t, svc.Name, vips, out)
		return out
	}
	fronts := frontEnds{vips: vips}
	// What is an address twice is the more protected one: nobody can take a cluster IP away
	// by naming it as an external IP.
	taken := slices.Clone(vips)
	for _, a := range f.addresses("spec.externalIPs", svc.ExternalIPs, out) {
		if !slices.Contains(taken, a) {
			fronts.externals, taken = append(fronts.externals, a), append(taken, a)
		}
	}
	for _, a := range f.addresses("status.loadBalancer.ingress", svc.LoadBalancerIPs, out) {
		if !slices.Contains(taken, a) {
			fronts.balancers, taken = append(fronts.balancers, a), append(taken, a)
		}
	}
	fronts.ranges = f.ofFamily(svc.SourceRanges)
	for i, port := range svc.Ports {
		if f.fit(svc, i, out) {
			p := f.newPort(t, svc, fmt.Sprintf("spec.ports[%d]", i), port, fronts, out)
			p.render()
		}
	}
	if svc.HealthCheckNodePort != 0 {
		f.healthCheck(t, svc, out)
	}
	return out
}

// frontEnds are the addresses of a Service in one family.
type frontEnds struct {
	vips, externals, balancers []netip.Addr
	// ranges limit who may use balancers; none for everybody.
	ranges []netip.Prefix
}

// addresses returns the addresses of the family.
func (f *facts) addresses(field string, all []netip.Addr, out *fragment) []netip.Addr {
	var fit []netip.Addr
	for i, a := range all {
		switch {
		case !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.Is4In6():
			// Said once, by the family that is always there.
			if f.family == ruleset.IPv4 {
				out.problem(fmt.Sprintf("%s[%d]", field, i), fmt.Sprintf("%q is no address of a Service", a))
			}
		case f.family.Has(a) && !slices.Contains(fit, a):
			fit = append(fit, a)
		}
	}
	return fit
}

// fit reports whether a port can be rendered.
func (f *facts) fit(svc *model.Service, i int, out *fragment) bool {
	field, port := fmt.Sprintf("spec.ports[%d]", i), svc.Ports[i]
	_, ok := protocol(port.Protocol)
	switch {
	case !ok:
		out.problem(field+".protocol", fmt.Sprintf("%q is none that can be proxied", port.Protocol))
	case port.Port == 0:
		out.problem(field+".port", "is 0")
	case port.Name != "" && !safe(port.Name):
		out.problem(field+".name", "has a character that no rule may contain")
	case slices.ContainsFunc(svc.Ports[:i], func(p model.ServicePort) bool {
		return p.Protocol == port.Protocol && (p.Name == port.Name || p.Port == port.Port)
	}):
		out.problem(field, "an earlier port has the same name or number")
	default:
		return true
	}
	return false
}

// leaveAlone returns the entries that keep what is meant for another proxy's Service
// from being rejected with the range that its address is in.
func (f *facts) leaveAlone(t *trees, n model.Name, vips []netip.Addr, out *fragment) {
	for _, vip := range vips {
		if f.serviceCIDR(vip) >= 0 {
			out.entries = append(out.entries, &entry{
				tree: t.refusedIP(f, vip), key: addressKey(vip), owner: model.ServicePortName{Name: n},
				rules: []ruleset.Rule{ruleset.Rule("-d " + hostPrefix(vip) + f.comment(n.String()+" has another proxy") + " -j RETURN")},
			})
		}
	}
}

// healthCheck lets load balancers ask, whatever the node's firewall says of all else.
func (f *facts) healthCheck(t *trees, svc *model.Service, out *fragment) {
	key := portKey("tcp", svc.HealthCheckNodePort)
	out.entries = append(out.entries, &entry{
		tree: t.healthChecks, key: key, owner: model.ServicePortName{Name: svc.Name}, field: "spec.healthCheckNodePort",
		rules: []ruleset.Rule{ruleset.Rule(portSpace{}.match(key) + f.comment(svc.Name.String()+" health check") + " -j ACCEPT")},
	})
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
