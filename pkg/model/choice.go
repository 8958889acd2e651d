package model

import (
	"net/netip"
	"slices"
)

// Target is where a packet for a service port can go.
type Target struct {
	netip.AddrPort
	Endpoint *Endpoint
}

// Targets returns the targets of port in the address family of like, each
// address and port once: where two groups name the same one, as may be while the
// endpoints of a Service are being repacked, the one that is not terminating
// counts. The order is that of the groups.
func (s *Service) Targets(port ServicePort, like netip.Addr) []Target {
	var out []Target
	var seen map[netip.AddrPort]int
	for gi := range s.Groups {
		group := &s.Groups[gi]
		for _, p := range group.Ports {
			if p.Name != port.Name || p.Protocol != port.Protocol {
				continue
			}
			for ei := range group.Endpoints {
				e := &group.Endpoints[ei]
				if e.Addr.Is4() != like.Is4() {
					continue
				}
				if seen == nil {
					seen = map[netip.AddrPort]int{}
				}
				target := Target{netip.AddrPortFrom(e.Addr, p.Port), e}
				if i, dup := seen[target.AddrPort]; !dup {
					seen[target.AddrPort] = len(out)
					out = append(out, target)
				} else if out[i].Endpoint.Terminating && !e.Terminating {
					out[i] = target
				}
			}
		}
	}
	return out
}

// Usable returns those of targets that new connections go to: the ready ones
// or, if there are none, those that still serve while they terminate (KEP-1669).
func Usable(targets []Target) []Target {
	var ready, fallback []Target
	for _, t := range targets {
		switch {
		case t.Endpoint.Ready:
			ready = append(ready, t)
		case t.Endpoint.Serving && t.Endpoint.Terminating:
			fallback = append(fallback, t)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return fallback
}

// Choice is where a node sends new connections to a port of a Service.
type Choice struct {
	// Cluster are the targets for the traffic policy Cluster, and of short cuts.
	Cluster []Target
	// Local are the targets for the traffic policy Local; nil if the Service has
	// no such policy.
	Local []Target
	// Any says that there are usable endpoints somewhere in the cluster.
	Any bool
}

// Choose decides as kube-proxy does. Cluster and Local fall back to terminating
// endpoints independently of each other, and hints count for Cluster only.
func (s *Service) Choose(port ServicePort, like netip.Addr, node *Node) Choice {
	targets := s.Targets(port, like)
	c := Choice{Cluster: near(Usable(targets), node)}
	c.Any = len(c.Cluster) > 0
	if s.InternalLocal || s.ExternalLocal {
		c.Local = Usable(slices.DeleteFunc(targets, func(t Target) bool {
			return t.Endpoint.Node == "" || t.Endpoint.Node != node.Name
		}))
	}
	return c
}

// near returns those of usable that are meant for the node, or else for its zone.
// If an endpoint has no hints, or none is meant for here, hints are out of date and all are
// returned. It does nothing to endpoints that terminate.
func near(usable []Target, node *Node) []Target {
	forNode := func(h *Hints) []string { return h.Nodes }
	forZone := func(h *Hints) []string { return h.Zones }
	if t, ok := hinted(usable, node.Name, forNode); ok {
		return t
	}
	if t, ok := hinted(usable, node.Zone, forZone); ok {
		return t
	}
	return usable
}

// hinted returns the targets that are meant for name, and false if there are
// none or some are not said to be meant for anybody.
func hinted(usable []Target, name string, of func(*Hints) []string) ([]Target, bool) {
	var out []Target
	for _, t := range usable {
		h := t.Endpoint.Hints
		if !t.Endpoint.Ready || h == nil || len(of(h)) == 0 {
			return nil, false
		}
		if slices.Contains(of(h), name) {
			out = append(out, t)
		}
	}
	return out, len(out) > 0
}
