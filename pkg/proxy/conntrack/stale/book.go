package stale

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Node is what decides at which addresses of the node there are NodePorts. The
// fields mean what they do in render.Config.
type Node struct {
	NodePortAddresses  []netip.Prefix
	LocalhostNodePorts bool
}

// Book follows the Services of one family whose rules are in. It must not be used
// concurrently.
//
// Its memory is one entry per front end. What it does when Services change follows the
// number of those that did.
type Book struct {
	family ruleset.Family
	node   Node
	// learned is false before the first Learn.
	learned  bool
	services model.ServiceMap
	// claims says for each front end what stands behind it: mostly one port of one Service.
	claims map[FrontEnd][]claim
	// watches are the front ends behind which something is gone.
	watches [kinds]map[FrontEnd]*watch
	// adopting is what is done once at the start.
	adopting [kinds]*watch
	// former is what tells a cluster IP that no Service has any more.
	former former
}

// claim is one port of a Service.
type claim struct {
	svc  *model.Service
	port int
}

// set is a set of endpoints.
type set = map[netip.AddrPort]struct{}

// New returns an empty Book.
func New(family ruleset.Family, node Node) *Book {
	b := &Book{family: family, node: node, claims: map[FrontEnd][]claim{}}
	for k := range b.watches {
		b.watches[k] = map[FrontEnd]*watch{}
	}
	return b
}

// Learn notes that the rules of services are in since now. snap is the snapshot that
// they are from; services lacks what the kernel refused of it.
func (b *Book) Learn(snap *model.Snapshot, services *model.ServiceMap, now time.Time) {
	for _, n := range services.Diff(&b.services) {
		b.change(b.services.Get(n), services.Get(n), now)
	}
	b.services = *services
	if !b.learned {
		b.learned = true
		for k := range b.watches {
			clear(b.watches[k]) // all of them are looked at in any case
			b.adopting[k] = &watch{since: now}
		}
	}
	if b.isAdopting() {
		b.former = newFormer(snap, services)
	}
}

// isAdopting reports whether the look at the start is still to be made.
func (b *Book) isAdopting() bool {
	return slices.ContainsFunc(b.adopting[:], func(w *watch) bool { return w != nil })
}

// change takes one Service from what it was to what it is; either may be nil.
func (b *Book) change(was, is *model.Service, now time.Time) {
	known := known{}
	before := map[FrontEnd]set{}
	for _, svc := range []*model.Service{was, is} {
		for f := range frontEnds(b.family, svc) {
			if _, ok := before[f]; !ok {
				before[f] = b.serving(f, known)
			}
		}
	}
	b.claim(was, is)
	if is != nil && is.OtherProxy {
		return // from now on its flows are another's
	}
	for f, served := range before {
		b.follow(f, served, b.serving(f, known), now)
	}
}

// claim replaces the claims of was by those of is.
func (b *Book) claim(was, is *model.Service) {
	for f := range frontEnds(b.family, was) {
		left := slices.DeleteFunc(b.claims[f], func(c claim) bool { return c.svc == was })
		if len(left) == 0 {
			delete(b.claims, f)
		} else {
			b.claims[f] = left
		}
	}
	for f, port := range frontEnds(b.family, is) {
		b.claims[f] = append(b.claims[f], claim{is, port})
	}
}

// follow watches a front end if an endpoint of those that served it before is gone,
// or if nobody did.
func (b *Book) follow(f FrontEnd, before, serving set, now time.Time) {
	watches := b.watches[kindOf(f.Protocol)]
	w := &watch{since: now, gone: without(before, serving), serving: serving, opened: len(before) == 0 && len(serving) > 0}
	if earlier := watches[f]; earlier != nil {
		w.join(earlier)
	}
	if len(w.gone) == 0 && !w.opened {
		delete(watches, f)
		return
	}
	watches[f] = w
}

// without returns what is in a and not in b.
func without(a, b set) set {
	out := set{}
	for e := range a {
		if _, ok := b[e]; !ok {
			out[e] = struct{}{}
		}
	}
	return out
}

// known are the endpoints of claims that were looked up already: the front ends of
// a port have the same.
type known map[claim]set

// serving returns the endpoints that flows at f may stay with: those of all
// Services that claim f. Nobody may write to it.
func (b *Book) serving(f FrontEnd, known known) set {
	claims := b.claims[f]
	if len(claims) == 1 {
		return b.endpoints(claims[0], known)
	}
	out := set{}
	for _, c := range claims {
		maps.Copy(out, b.endpoints(c, known))
	}
	return out
}

// endpoints returns the endpoints of c that are ready or serve.
func (b *Book) endpoints(c claim, known known) set {
	if out, ok := known[c]; ok {
		return out
	}
	like := netip.IPv4Unspecified()
	if b.family == ruleset.IPv6 {
		like = netip.IPv6Unspecified()
	}
	out := set{}
	for _, t := range c.svc.Targets(c.svc.Ports[c.port], like) {
		if t.Endpoint.Ready || t.Endpoint.Serving {
			out[t.AddrPort] = struct{}{}
		}
	}
	known[c] = out
	return out
}
