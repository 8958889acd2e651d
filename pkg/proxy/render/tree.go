package render

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// place is a chain that Services share. It exists while it has an entry.
type place struct {
	key ruleset.Key
	// parent and via say what leads to it: the rules in the parent, at that
	// place in its order. A place without parent is entered by a hook, and always exists.
	parent *place
	order  string
	via    []ruleset.Rule
	// head and tail stand before and after the entries.
	head, tail []ruleset.Rule
}

// entry is what a Service port wants to have in a place. Two that want the same
// order in the same place want the same packets; one of them gets them.
type entry struct {
	at    *place
	order string
	rule  ruleset.Rule
	owner model.ServicePortName
	// field is what to name if another Service got the packets; empty where
	// many may want the same.
	field string
}

// Lengths of the prefixes that the chains of the tree are for, counted from the
// end of the address so that they suit both families: /16, /20, /24 for IPv4.
// Filter has one level less, as only packets that are rejected go down there.
func treeLevels(t ruleset.Table) []int {
	if t == ruleset.NAT {
		return []int{16, 12, 8}
	}
	return []int{16, 12}
}

// leaf returns the lowest place of the tree for an address.
func (f *facts) leaf(t ruleset.Table, a netip.Addr) *place {
	at := f.root(t)
	for depth, host := range treeLevels(t) {
		p, _ := a.Prefix(f.family.Bits() - host)
		down := "-j" // so that the first level gets to its tail
		if depth > 1 {
			down = "-g"
		}
		name := treeName(p)
		next := &place{
			key:    ruleset.Key{Table: t, Name: name},
			parent: at,
			order:  "1" + addrOrder(p.Addr()),
			via:    []ruleset.Rule{ruleset.Rule("-d " + p.String() + " " + down + " " + name)},
		}
		if depth == 0 && t == ruleset.NAT {
			next.head, next.tail = f.markOffCluster()
		}
		at = next
	}
	return at
}

func (f *facts) root(t ruleset.Table) *place {
	return &place{key: ruleset.Key{Table: t, Name: services}}
}

// treeName returns a name that says the prefix where it is short enough for it.
func treeName(p netip.Prefix) string {
	if p.Addr().Is4() {
		return ruleset.Prefix + strings.ReplaceAll(p.String(), "/", "-")
	}
	return ruleset.HashedName("NET-", p.String())
}

func addrOrder(a netip.Addr) string {
	b := a.As16()
	return string(b[:])
}

// markOffCluster returns the rules that bracket the translation to cluster IPs:
// the mark is on while a packet from off the cluster looks for its Service, and
// taken off again if there is none.
func (f *facts) markOffCluster() (head, tail []ruleset.Rule) {
	switch {
	case f.MasqueradeAll:
		head = []ruleset.Rule{ruleset.Rule(f.setMark())}
	case len(f.offNet) == 0:
		return nil, nil
	case len(f.offNet) == 1:
		head = []ruleset.Rule{ruleset.Rule("! -s " + f.offNet[0].String() + " " + f.setMark())}
	default:
		head = []ruleset.Rule{ruleset.Rule("-j " + offCluster)}
	}
	return head, []ruleset.Rule{ruleset.Rule(f.clearMark())}
}

// clusterIP returns the entries for a cluster IP and port: what is translated,
// and what is rejected if it was not. The latter is nothing where the range is
// known that cluster IPs come from, as that is rejected as a whole.
func (f *facts) clusterIP(name model.ServicePortName, proto string, vip netip.Addr, port uint16, chain string) []entry {
	match := fmt.Sprintf("-d %s -p %s -m %s --dport %d", hostPrefix(vip), proto, proto, port)
	order := addrOrder(vip) + proto + portOrder(port)
	out := []entry{{f.leaf(ruleset.NAT, vip), order, ruleset.Rule(match + f.comment(name.String()) + " -g " + chain), name, "spec.clusterIPs"}}
	if f.inServiceCIDR(vip) {
		return out
	}
	reject := match + f.comment(name.String()+" without endpoints")
	if slices.Contains(f.listeners, netip.AddrPortFrom(vip, port)) {
		// The node may have the address, and then either a socket there or a
		// kernel that rejects without being told.
		reject += " -m addrtype ! --dst-type LOCAL"
	}
	return append(out, entry{f.leaf(ruleset.Filter, vip), order, ruleset.Rule(reject + refuse(proto)), name, ""})
}

// refuse returns the target that tells a client that nobody is there. The kernel
// sends a host about one ICMP message a second, so of many clients on it most
// would wait for their time-outs; a reset has no such limit.
func refuse(proto string) string {
	if proto == "tcp" {
		return " -j REJECT --reject-with tcp-reset"
	}
	return " -j REJECT"
}

func (f *facts) inServiceCIDR(a netip.Addr) bool {
	return slices.ContainsFunc(f.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// leaveAlone returns the entries that keep what is meant for another proxy's Service
// from being rejected with the range that its address is in.
func (f *facts) leaveAlone(n model.Name, vips []netip.Addr) []entry {
	var out []entry
	for _, vip := range vips {
		if f.inServiceCIDR(vip) {
			out = append(out, entry{f.root(ruleset.Filter), "0" + addrOrder(vip),
				ruleset.Rule("-d " + hostPrefix(vip) + f.comment(n.String()+" has another proxy") + " -j RETURN"),
				model.ServicePortName{Name: n}, ""})
		}
	}
	return out
}

func portOrder(p uint16) string { return string(binary.BigEndian.AppendUint16(nil, p)) }

// bucket is how many NodePorts share a chain.
const bucket = 64

// nodePort returns the entries for a NodePort.
func (f *facts) nodePort(name model.ServicePortName, proto string, port uint16, chain string, usable bool) []entry {
	match := fmt.Sprintf("-p %s -m %s --dport %d", proto, proto, port)
	out := []entry{{f.nodePortPlace(ruleset.NAT, proto, port), portOrder(port),
		ruleset.Rule(match + f.comment(name.String()+" node port") + " -g " + chain), name, "spec.ports.nodePort"}}
	if !usable {
		out = append(out, entry{f.nodePortPlace(ruleset.Filter, proto, port), portOrder(port),
			ruleset.Rule(match + f.comment(name.String()+" without endpoints") + refuse(proto)), name, ""})
	}
	return out
}

// nodePortPlace returns the chain for the ports around port.
func (f *facts) nodePortPlace(t ruleset.Table, proto string, port uint16) *place {
	all := &place{key: ruleset.Key{Table: t, Name: nodePorts}, parent: f.root(t), order: "2", via: f.toNodePorts()}
	all.head = f.noLocalhost()
	if t == ruleset.NAT {
		all.head = append(all.head, ruleset.Rule(f.setMark()))
		all.tail = []ruleset.Rule{ruleset.Rule(f.clearMark())}
	}
	first := port &^ (bucket - 1)
	name := fmt.Sprintf("%sNP-%s-%d", ruleset.Prefix, strings.ToUpper(proto), first)
	return &place{
		key:    ruleset.Key{Table: t, Name: name},
		parent: all,
		order:  proto + portOrder(first),
		via: []ruleset.Rule{ruleset.Rule(fmt.Sprintf("-p %s -m %s --dport %d:%d -j %s",
			proto, proto, first, first+bucket-1, name))},
	}
}

// toNodePorts are the rules that take packets to the node itself.
func (f *facts) toNodePorts() []ruleset.Rule {
	const local = "-m addrtype --dst-type LOCAL -j " + nodePorts
	if len(f.NodePortAddresses) == 0 {
		return []ruleset.Rule{local}
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

// hairpin returns the entry for an endpoint of this node: a packet that it sent
// and that came back to it needs another source, as its answer would not pass
// through the node.
func (f *facts) hairpin(name model.ServicePortName, a netip.Addr) entry {
	host := hostPrefix(a)
	return entry{
		at:    &place{key: ruleset.Key{Table: ruleset.NAT, Name: hairpin}},
		order: addrOrder(a),
		rule:  ruleset.Rule("-s " + host + " -d " + host + " -j " + masquerade),
		owner: name,
	}
}
