package records

import (
	"net/netip"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
)

// How near an endpoint is to this node.
const (
	onNode = iota
	inZone
	anywhere
	distances
)

// distance says how near e is.
func distance(e *model.Endpoint, node *model.Node) int {
	switch {
	case e.Node != "" && e.Node == node.Name:
		return onNode
	case e.Zone != "" && e.Zone == node.Zone:
		return inZone
	}
	return anywhere
}

// nearFirst returns addrs, the addresses of ready endpoints of svc, in the order of
// how near they are. Those that are alike begin at one that rotation chooses: many
// clients take the first.
func (l lookup) nearFirst(svc *model.Service, addrs []netip.Addr) []netip.Addr {
	node := &l.view.snapshot.Node
	far := make(map[netip.Addr]int, len(addrs))
	for i := range svc.Groups {
		for j := range svc.Groups[i].Endpoints {
			if e := &svc.Groups[i].Endpoints[j]; e.Ready {
				d := distance(e, node)
				if was, known := far[e.Addr]; !known || d < was {
					far[e.Addr] = d
				}
			}
		}
	}
	out := make([]netip.Addr, 0, len(addrs))
	for d := range distances {
		from := len(out)
		for _, a := range addrs {
			if far[a] == d {
				out = append(out, a)
			}
		}
		turn(out[from:], l.rotation)
	}
	return out
}

// turn makes list begin with the element that rotation chooses.
func turn(list []netip.Addr, rotation uint32) {
	if len(list) > 1 {
		n := int(rotation % uint32(len(list)))
		copy(list, slices.Concat(list[n:], list[:n]))
	}
}
