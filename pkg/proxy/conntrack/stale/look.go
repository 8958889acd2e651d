package stale

import (
	"net/netip"
	"slices"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Look is what to look for in the kernel's table at one moment.
type Look struct {
	book    *Book
	kind    Kind
	at      time.Time
	watches map[FrontEnd]*watch
	// adopting is not nil for the look at the start.
	adopting *watch
	// served are the endpoints of the front ends that the look at the start has met.
	served map[FrontEnd]set
}

// NodePorts reports whether Stale has to know the node's addresses.
func (l *Look) NodePorts() bool {
	if l.adopting != nil {
		return true
	}
	for f := range l.watches {
		if !f.Addr.IsValid() {
			return true
		}
	}
	return false
}

// Filter returns what is common to all that Stale can be true for.
func (l *Look) Filter() Filter {
	f := Filter{Unassured: l.kind == Handshakes}
	if l.kind == Datagrams {
		f.Protocol = UDP
	}
	if l.adopting != nil {
		return f
	}
	l.ends(&f)
	gone, opened := l.servers(&f)
	f.Translated, f.Unanswered = !opened, !gone
	return f
}

// ends sets what is common to the front ends.
func (l *Look) ends(f *Filter) {
	first := true
	for end := range l.watches {
		if first {
			f.Protocol, f.To, f.ToPort = end.Protocol, end.Addr, end.Port
			first = false
			continue
		}
		if f.Protocol != end.Protocol {
			f.Protocol = 0
		}
		if f.To != end.Addr {
			f.To = netip.Addr{}
		}
		if f.ToPort != end.Port {
			f.ToPort = 0
		}
	}
}

// servers sets what is common to the endpoints. It returns whether any are gone,
// and whether there is a front end that was served by nobody.
func (l *Look) servers(f *Filter) (gone, opened bool) {
	several := false
	for _, w := range l.watches {
		opened = opened || w.opened
		for e := range w.gone {
			several = several || gone && e != f.Server
			gone, f.Server = true, e
		}
	}
	if several || opened {
		f.Server = netip.AddrPort{}
	}
	return gone, opened
}

// Stale reports whether flow is to be cut. isLocal tells which addresses are the
// node's own; it is asked only if NodePorts says so.
func (l *Look) Stale(flow Flow, isLocal func(netip.Addr) bool) bool {
	if kindOf(flow.Protocol) != l.kind || l.kind == Handshakes && !flow.HalfOpen {
		return false
	}
	end := FrontEnd{flow.To.Addr(), flow.To.Port(), flow.Protocol}
	atNode := FrontEnd{netip.Addr{}, flow.To.Port(), flow.Protocol}
	if w, ok := l.watches[end]; ok {
		return w.stale(flow)
	}
	if w, ok := l.watches[atNode]; ok && l.book.claims[end] == nil {
		return l.hasNodePorts(flow.To.Addr(), isLocal) && w.stale(flow)
	}
	if l.adopting == nil {
		return false
	}
	if l.book.claims[end] != nil {
		return l.misled(end, flow)
	}
	if l.book.claims[atNode] != nil && l.hasNodePorts(flow.To.Addr(), isLocal) {
		return l.misled(atNode, flow)
	}
	return flow.To != flow.Server && l.book.former.has(flow.To.Addr())
}

// stale decides by what has changed.
func (w *watch) stale(flow Flow) bool {
	if _, gone := w.gone[flow.Server]; gone {
		return true
	}
	return w.opened && w.black(flow)
}

// black reports whether flow was begun while there was nobody to send it to.
// What somebody answers at that address is another's.
func (w *watch) black(flow Flow) bool {
	_, served := w.serving[flow.Server]
	return !served && !flow.Answered && flow.Server == flow.To
}

// misled decides by what is now.
func (l *Look) misled(end FrontEnd, flow Flow) bool {
	serving, ok := l.served[end]
	if !ok {
		serving = l.book.serving(end, known{})
		l.served[end] = serving
	}
	if _, serves := serving[flow.Server]; serves {
		return false
	}
	w := watch{serving: serving}
	return flow.Server != flow.To || len(serving) > 0 && w.black(flow)
}

// hasNodePorts reports whether NodePorts are reached at a.
func (l *Look) hasNodePorts(a netip.Addr, isLocal func(netip.Addr) bool) bool {
	node := l.book.node
	if !isLocal(a) || a.IsLoopback() && (a.Is6() || !node.LocalhostNodePorts) {
		return false
	}
	all := true
	for _, p := range node.NodePortAddresses {
		if p.Addr().Is4() == a.Is4() {
			if all = false; p.Contains(a) {
				return true
			}
		}
	}
	return all
}

// former tells the front ends of Services that were deleted while no process was
// there to see it: addresses that only Services get and that none has.
type former struct {
	ranges []netip.Prefix
	// others are those of Services that the Book knows nothing about: another proxy's, and
	// those whose rules were refused.
	others map[netip.Addr]struct{}
}

func newFormer(snap *model.Snapshot, services *model.ServiceMap) former {
	f := former{ranges: snap.ServiceCIDRs, others: map[netip.Addr]struct{}{}}
	for name, svc := range snap.Services.All() {
		if programmed(svc) && services.Get(name) != nil {
			continue
		}
		for _, a := range svc.ClusterIPs {
			f.others[a] = struct{}{}
		}
	}
	return f
}

func (f *former) has(a netip.Addr) bool {
	_, other := f.others[a]
	return !other && slices.ContainsFunc(f.ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}
