package stale

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// frontEnds iterates over where svc is reached in a family, with the index of the
// port. This is the one place that knows which front ends there are. svc may be nil.
func frontEnds(family ruleset.Family, svc *model.Service) iter.Seq2[FrontEnd, int] {
	return func(yield func(FrontEnd, int) bool) {
		if !programmed(svc) {
			return
		}
		addrs := addresses(family, svc)
		if len(addrs) == 0 {
			return
		}
		for i, p := range svc.Ports {
			proto := protocolOf(p.Protocol)
			if proto == 0 || p.Port == 0 {
				continue
			}
			for _, a := range addrs {
				if !yield(FrontEnd{a, p.Port, proto}, i) {
					return
				}
			}
			if p.NodePort != 0 && !yield(FrontEnd{netip.Addr{}, p.NodePort, proto}, i) {
				return
			}
		}
	}
}

// programmed reports whether there are rules for svc.
func programmed(svc *model.Service) bool {
	return svc != nil && !svc.Headless && svc.ExternalName == "" && !svc.OtherProxy
}

// addresses returns the addresses of the family at which svc has its ports; none
// if it has no cluster IP in the family, as then it has nothing else there.
func addresses(family ruleset.Family, svc *model.Service) []netip.Addr {
	var out []netip.Addr
	for _, a := range svc.ClusterIPs {
		if family.Has(a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil
	}
	for _, a := range slices.Concat(svc.ExternalIPs, svc.LoadBalancerIPs) {
		if family.Has(a) {
			out = append(out, a)
		}
	}
	return out
}
