package render

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Config is what rendering depends on besides the Services and the node's own
// Node object.
type Config struct {
	// ClusterCIDRs are the ranges that all pods of the cluster have their
	// addresses from.
	ClusterCIDRs []netip.Prefix
	// DetectLocal is how packets of pods are told from others, which are
	// masqueraded if they go to a cluster IP.
	DetectLocal Mode
	// DetectInterface is the interface, or the start of its name, for the modes that
	// want one. It must be fit for a rule, which is for the caller to check.
	DetectInterface string
	// ServiceCIDRs are the ranges that cluster IPs come from. What goes to an
	// address in them that no Service has, or to a port that its Service does not
	// have, is rejected, as in kube-proxy's nftables mode; where none are known,
	// it leaves by whatever route the node has.
	ServiceCIDRs []netip.Prefix
	// MasqueradeAll masquerades all packets to cluster IPs.
	MasqueradeAll bool
	// MasqueradeBit is the bit of the packet mark, 0 to 31, that says that a
	// packet is to be masqueraded. 14 by convention.
	MasqueradeBit uint8
	// NodePortAddresses are the ranges of node addresses at which NodePorts are
	// served. If there is none of a family: at all.
	NodePortAddresses []netip.Prefix
	// NodePortPrimary serves NodePorts at the node's first address of each family
	// instead, as far as that is known.
	NodePortPrimary bool
	// LocalhostNodePorts also serves NodePorts at 127.0.0.1, which takes the
	// kernel's route_localnet; never at ::1.
	LocalhostNodePorts bool
	// LocalListeners are addresses of Services, such as 10.96.0.10:53, at which
	// a process of this node itself may listen, on UDP and TCP. While a
	// socket is bound to one, packets to it from outside and from pods go to that socket, untouched
	// and untracked; while none is, they are translated like any others.
	LocalListeners []netip.AddrPort
	// Kernel says what the node's iptables can do.
	Kernel Kernel
}

// Kernel is what the iptables programs and the kernel of a node can do, of the
// things that are missing here and there and that Signpost can do without.
type Kernel struct {
	// Comment: rules can carry comments.
	Comment bool
	// Statistic: rules can match at random. Without it, all new connections of a
	// Service go to the first of its endpoints.
	Statistic bool
	// IPSets: rules can fill sets of addresses and look into them, which is how a
	// client keeps its endpoint. If not, Recent does it, which forgets the oldest
	// clients of an endpoint when there are more than the module was loaded for: 100
	// by default. With neither, clients do not keep theirs.
	IPSets, Recent bool
	// RandomFully: MASQUERADE can choose ports fully at random, which avoids
	// clashes of concurrent connections.
	RandomFully bool
	// Listeners: packets can be matched by socket and kept from being tracked.
	// Without it LocalListeners are not served.
	Listeners bool
	// DropInvalid: packets to and from endpoints of Services that belong to no connection and
	// start none must be dropped when they are forwarded: as they are not translated, they reset
	// connections. Not so where nf_conntrack_tcp_be_liberal is on.
	DropInvalid bool
}

// FullKernel returns a Kernel that can do everything and is set up as kernels
// are by default.
func FullKernel() Kernel {
	return Kernel{Comment: true, Statistic: true, IPSets: true, Recent: true, RandomFully: true, Listeners: true, DropInvalid: true}
}

// RoutesLocalhost reports whether NodePorts are served at 127.0.0.1, for which
// the kernel has to be told to route such addresses. That has to come after the rules and hooks
// for IPv4: they keep neighbours from using it.
func (c *Config) RoutesLocalhost() bool {
	if !c.LocalhostNodePorts || c.NodePortPrimary {
		return false
	}
	chosen := false
	for _, p := range c.NodePortAddresses {
		if p.Overlaps(netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)) {
			return true
		}
		chosen = chosen || ruleset.IPv4.Has(p.Addr())
	}
	return !chosen
}

// facts are the parts of Config and Node that matter in one family, in the form
// in which rules need them.
type facts struct {
	Config
	family    ruleset.Family
	node      model.Node
	podRanges []netip.Prefix // of all pods; empty if not known
	pods      []string       // what matches packets from pods
	listeners []netip.AddrPort
}

func newFacts(family ruleset.Family, cfg Config, node model.Node) facts {
	f := facts{Config: cfg, family: family, node: node}
	f.podRanges = f.ofFamily(cfg.ClusterCIDRs)
	f.pods = f.podSources()
	f.ServiceCIDRs = widest(f.ofFamily(cfg.ServiceCIDRs))
	f.NodePortAddresses = f.ofFamily(cfg.NodePortAddresses)
	if cfg.NodePortPrimary {
		f.NodePortAddresses = f.primary()
	}
	f.LocalhostNodePorts = cfg.RoutesLocalhost() && family == ruleset.IPv4
	for _, l := range cfg.LocalListeners {
		if cfg.Kernel.Listeners && family.Has(l.Addr()) && !slices.Contains(f.listeners, l) {
			f.listeners = append(f.listeners, l)
		}
	}
	slices.SortFunc(f.listeners, netip.AddrPort.Compare)
	return f
}

// widest returns ranges without those that are within others.
func widest(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range ranges { // a wider one comes before those within it
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Overlaps(p) }) {
			out = append(out, p)
		}
	}
	return out
}

func (f *facts) ofFamily(all []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		if p.IsValid() && f.family.Has(p.Addr()) {
			out = append(out, p.Masked())
		}
	}
	return out
}

// primary returns the node's first address.
func (f *facts) primary() []netip.Prefix {
	for _, a := range f.node.Addrs {
		if f.family.Has(a) {
			return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
		}
	}
	return nil
}

// isLocal reports whether an endpoint is a pod of this node: only those can send to
// themselves through this node.
func (f *facts) isLocal(e *model.Endpoint) bool {
	if slices.Contains(f.node.Addrs, e.Addr) {
		return false // a process of the node: it is delivered without leaving
	}
	if e.Node != "" {
		return e.Node == f.node.Name
	}
	// An endpoint that somebody wrote by hand and that says no node.
	own := f.ofFamily(f.node.PodCIDRs)
	return len(own) == 0 || slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(e.Addr) })
}

// mark returns the mark bit as "0x4000/0x4000".
func (f *facts) mark() string {
	bit := uint32(1) << (f.MasqueradeBit & 31)
	return fmt.Sprintf("%#x/%#x", bit, bit)
}

// setMark and clearMark return the target that turns the mark bit on and off.
func (f *facts) setMark() string { return "-j MARK --set-xmark " + f.mark() }

func (f *facts) clearMark() string {
	return fmt.Sprintf("-j MARK --set-xmark 0x0/%#x", uint32(1)<<(f.MasqueradeBit&31))
}

// comment returns a match that does nothing but say text, with a blank in front.
func (f *facts) comment(text string) string {
	if !f.Kernel.Comment {
		return ""
	}
	return ` -m comment --comment "` + text + `"`
}
