package daemon

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/dns"
	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy"
)

// dnsPort is the port of name servers, RFC 1035.
const dnsPort = 53

func proxyConfig(cfg *v1alpha1.Proxy) proxy.Config {
	addresses, primary := cfg.NodePortAddresses, slices.Contains(cfg.NodePortAddresses, v1alpha1.NodePortPrimary)
	if primary {
		addresses = nil
	}
	return proxy.Config{
		Backend:            string(cfg.Backend),
		ClusterCIDRs:       prefixes(cfg.ClusterCIDRs),
		DetectLocal:        string(cfg.DetectLocal.Mode),
		DetectInterface:    cfg.DetectLocal.Interface,
		MasqueradeAll:      cfg.MasqueradeAll,
		MasqueradeBit:      uint8(cfg.MasqueradeBit),
		NodePortAddresses:  prefixes(addresses),
		NodePortPrimary:    primary,
		LocalhostNodePorts: cfg.LocalhostNodePorts,
		SyncPeriod:         cfg.SyncPeriod.Duration,
	}
}

// nodePortsAt returns at which ranges of a family node ports are answered, as the rules have it:
// where a family has no range, everywhere, as with kube-proxy.
func nodePortsAt(cfg *v1alpha1.Proxy) func(*model.Node, bool) []netip.Prefix {
	c := proxyConfig(cfg)
	return func(node *model.Node, ipv4 bool) []netip.Prefix {
		if c.NodePortPrimary {
			i := slices.IndexFunc(node.Addrs, func(a netip.Addr) bool { return a.Is4() == ipv4 })
			if i < 0 {
				return nil
			}
			return []netip.Prefix{netip.PrefixFrom(node.Addrs[i], node.Addrs[i].BitLen())}
		}
		var of []netip.Prefix
		for _, p := range c.NodePortAddresses {
			if p.Addr().Is4() == ipv4 {
				of = append(of, p)
			}
		}
		switch {
		case len(of) > 0:
			return of
		case ipv4:
			return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
		}
		return []netip.Prefix{netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
}

func dnsOptions(cfg *v1alpha1.DNS, snapshots dns.Snapshots, log *slog.Logger, registerer prometheus.Registerer) dns.Options {
	return dns.Options{
		Snapshots:         snapshots,
		Rules:             nil, // those of startDNS
		Domain:            strings.TrimSuffix(cfg.Domain, "."),
		Service:           nameServer(cfg),
		Listen:            addrPorts(cfg.Listen),
		AddressesAreLocal: false,
		PeerPort:          uint16(cfg.PeerPort),
		ClientRanges:      prefixes(cfg.Clients),
		TTL:               cfg.TTL.Duration,
		Pods:              records.PodMode(cfg.Pods),
		OwnPods:           nil, // those of startDNS
		Clients:           nil, // those of startDNS
		ResolvConf:        cfg.SearchPath.ResolvConf,
		AwaitRules:        cfg.AwaitRules.Duration,
		Upstreams:         cfg.Upstreams,
		StubDomains:       cfg.StubDomains,
		Registerer:        registerer,
		Log:               log,
	}
}

// nameServer is the DNS Service. The configuration was checked to have its name.
func nameServer(cfg *v1alpha1.DNS) model.Name {
	namespace, name, _ := strings.Cut(cfg.Service, "/")
	return model.Name{Namespace: namespace, Name: name}
}

// nameServerAddresses are the addresses at which pods expect a name server, and
// which this node therefore has to serve.
func nameServerAddresses(cfg *v1alpha1.DNS, s *model.Snapshot) []netip.AddrPort {
	if len(cfg.Listen) > 0 {
		return addrPorts(cfg.Listen)
	}
	svc := s.Services.Get(nameServer(cfg))
	if svc == nil {
		return nil
	}
	var out []netip.AddrPort
	for _, ip := range svc.ClusterIPs {
		out = append(out, netip.AddrPortFrom(ip, dnsPort))
	}
	return out
}

// prefixes and addrPorts read what validation has accepted.
func prefixes(in []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range in {
		out = append(out, netip.MustParsePrefix(s).Masked())
	}
	return out
}

func addrPorts(in []string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range in {
		out = append(out, netip.MustParseAddrPort(s))
	}
	return out
}

// daemons returns the nodes on which Signpost runs: those which answer at the
// name server's Service. It knows none if that is somebody else's.
func daemons(cfg *v1alpha1.SignpostConfiguration, s *model.Snapshot) []string {
	svc := nameServerOf(cfg, s)
	if svc == nil {
		return nil
	}
	var out []string
	for _, g := range svc.Groups {
		for _, e := range g.Endpoints {
			if e.Node != "" {
				out = append(out, e.Node)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// nameServerOf returns the Service behind which the daemons are, or nil.
func nameServerOf(cfg *v1alpha1.SignpostConfiguration, s *model.Snapshot) *model.Service {
	if !cfg.DNS.Enabled || s == nil {
		return nil
	}
	return s.Services.Get(nameServer(&cfg.DNS))
}
