package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/pkg/announce"
	"github.com/signpost-dev/signpost/pkg/announce/eligible"
	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/peers"
)

// Reasons of Events on Services with addresses that nodes announce.
const (
	reasonNodeAssigned    = "NodeAssigned"
	reasonAddressConflict = "AddressConflict"
)

// startAnnouncer has this node announce load balancer addresses, unless that is off.
// Programmed is the generation of the snapshot whose rules are in; nil if they are
// left to others.
func startAnnouncer(ctx context.Context, group *errgroup.Group, n *node, programmed func() uint64) error {
	if !n.cfg.Announce.Enabled {
		return nil
	}
	if !n.cfg.DNS.Enabled {
		n.log.Warn("load balancer addresses are not announced: with dns.enabled false, the nodes do not find each other")
		return nil
	}
	pools, err := newPoolWatch(n.conn, n.log)
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	w := &wishes{
		snapshot: n.watched.Snapshot, programmed: programmed, pools: pools,
		roster: roster{cfg: n.cfg, snapshot: n.watched.Snapshot}, since: map[netip.Addr]uint64{},
	}
	tell := func(address netip.Addr, warn bool, reason, message string) {
		for _, svc := range w.services.Of(address) {
			if warn {
				n.events.ServiceWarning(svc, reason, message)
			} else {
				n.events.ServiceNormal(svc, reason, message)
			}
		}
	}
	announcer, err := announce.New(announce.Options{
		NodeName: n.cfg.NodeName,
		Port:     uint16(n.cfg.Announce.Port),
		Wishes:   w.read,
		Changed:  n.watched.Subscribe(),
		Taken: func(address netip.Addr) {
			tell(address, false, reasonNodeAssigned, fmt.Sprintf("node %s answers for %v", n.cfg.NodeName, address))
		},
		Conflict:   func(address netip.Addr, message string) { tell(address, true, reasonAddressConflict, message) },
		Registerer: n.registry,
		Log:        n.log,
	})
	if err != nil {
		return err
	}
	group.Go(func() error { return pools.run(ctx) })
	group.Go(func() error { return announcer.Run(ctx) })
	return nil
}

// wishes finds what there is to announce. It is for one goroutine at a time, and
// works only when something has changed.
type wishes struct {
	snapshot   func() *model.Snapshot
	programmed func() uint64 // nil: rules are left to others
	pools      *poolWatch
	roster     roster
	services   eligible.Services

	// last rests on these.
	last  *announce.Wishes
	self  model.Node
	nodes *peers.Roster
	from  *poolList
	// since is the generation of the first snapshot by which this node may announce
	// an address; waiting that the rules do not have all of them yet.
	since   map[netip.Addr]uint64
	waiting bool
}

// read returns nil as long as there is nothing to announce, or it is not known who
// the nodes are.
func (w *wishes) read() *announce.Wishes {
	s, nodes := w.snapshot(), w.roster.read()
	if s == nil || nodes == nil {
		return nil
	}
	news := w.services.Follow(&s.Services)
	if !w.services.Any() {
		w.last = nil
		return nil
	}
	from := w.pools.known()
	if w.last == nil || news || w.waiting || nodes != w.nodes || from != w.from || !reflect.DeepEqual(s.Node, w.self) {
		w.self, w.nodes, w.from = s.Node, nodes, from
		if next := w.find(s); w.last == nil || !reflect.DeepEqual(next, w.last) {
			w.last = next
		}
	}
	return w.last
}

// find returns what there is to announce by a snapshot: of this node nothing that
// its rules do not know yet, and nothing as long as pools are not known.
func (w *wishes) find(s *model.Snapshot) *announce.Wishes {
	out := &announce.Wishes{Nodes: w.nodes.Addrs, Own: s.Node.Addrs}
	w.waiting = false
	if w.from == nil {
		return out
	}
	out.Addresses = w.services.Addresses(&s.Node, slices.Collect(maps.Keys(w.nodes.Addrs)), w.from.seenBy(&s.Node))
	maps.DeleteFunc(w.since, func(address netip.Addr, _ uint64) bool {
		_, still := out.Addresses[address]
		return !still
	})
	rules := s.Generation
	if w.programmed != nil {
		rules = w.programmed()
	}
	for address := range out.Addresses {
		if w.since[address] == 0 {
			w.since[address] = s.Generation
		}
		if w.since[address] > rules {
			delete(out.Addresses, address)
			w.waiting = true
		}
	}
	return out
}
