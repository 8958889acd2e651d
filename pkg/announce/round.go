package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/pkg/announce/claim"
	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// sayings are what is to be said on the links, by address.
type sayings struct{ probes, announcements []netip.Addr }

// act does what is due, and returns when to look again.
func (a *Announcer) act(now time.Time) time.Duration {
	a.mu.Lock()
	say, conflicts := a.ask(now)
	message, others := a.tick(now)
	var gained, lost []netip.Addr
	for address, p := range a.places {
		n := p.look(now, a.node.Holds(now, address))
		if n.announce {
			say.announcements = append(say.announcements, address)
		}
		if n.taken {
			gained = append(gained, address)
		}
		if n.lost {
			lost = append(lost, address)
		}
	}
	next := a.next(now)
	a.count()
	a.mu.Unlock()
	if message != nil {
		a.sendMessage(*message, others)
	}
	a.say(say)
	a.report(gained, lost, conflicts)
	return next
}

// ask looks after the probes. a.mu must be held.
func (a *Announcer) ask(now time.Time) (say sayings, conflicts map[netip.Addr]string) {
	conflicts = map[netip.Addr]string{}
	for address, p := range a.places {
		n := p.ask(now)
		if n.probe {
			say.probes = append(say.probes, address)
		}
		if n.conflict {
			conflicts[address] = p.conflict(address, a.strange(p.stranger))
		}
		a.stale = a.stale || n.freed
	}
	return say, conflicts
}

// strange says whether the address of an interface is of no node. a.mu must be held.
func (a *Announcer) strange(mac frame.MAC) bool { return !a.macs[mac] }

// tick returns the message to send now, or nil, and to whom. a.mu must be held.
func (a *Announcer) tick(now time.Time) (*claim.Message, []netip.Addr) {
	if !a.stale && now.Before(a.nextTick) && !a.node.Due(now) {
		return nil, nil
	}
	if a.stale {
		may := map[netip.Addr][]string{}
		for address, p := range a.places {
			if p.state == free && len(p.at) > 0 {
				may[address] = p.Nodes
			}
		}
		a.node.SetAddresses(now, may)
		a.stale = false
	}
	a.nextTick = now.Add(claim.Period)
	return new(a.node.Tick(now)), a.others()
}

// next returns how long there is nothing to do. a.mu must be held.
func (a *Announcer) next(now time.Time) time.Duration {
	next := a.nextTick
	for _, p := range a.places {
		if at, ok := p.due(); ok && at.Before(next) {
			next = at
		}
	}
	return max(0, next.Sub(now))
}

func (a *Announcer) count() {
	counts := map[string]int{"held": 0, "standby": 0, "probing": 0, "taken": 0, "unlinked": 0}
	for _, p := range a.places {
		switch {
		case len(p.at) == 0:
			counts["unlinked"]++
		case p.held:
			counts["held"]++
		case p.state == taken:
			counts["taken"]++
		case p.state == probing:
			counts["probing"]++
		default:
			counts["standby"]++
		}
	}
	for state, n := range counts {
		a.metrics.addresses.WithLabelValues(state).Set(float64(n))
	}
}

// say says on the links what is to be said. Whether an address is still held is
// asked for each one: time has passed.
func (a *Announcer) say(s sayings) {
	for _, address := range s.probes {
		for _, p := range a.portsOf(address) {
			_ = p.probe(address) // a link that is down: it will be known soon
		}
	}
	for _, address := range s.announcements {
		for _, p := range a.portsOf(address) {
			if a.holds(address) {
				_ = p.announce(address)
			}
		}
	}
}

func (a *Announcer) portsOf(address netip.Addr) []*port {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*port
	if p := a.places[address]; p != nil {
		for _, index := range p.at {
			out = append(out, a.ports[index])
		}
	}
	return out
}

// holds says whether this node has an address now.
func (a *Announcer) holds(address netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.node != nil && a.node.Holds(time.Now(), address)
}

// report logs what has changed, and tells of it.
func (a *Announcer) report(gained, lost []netip.Addr, conflicts map[netip.Addr]string) {
	log := a.options.Log
	if len(gained) > 0 {
		log.Info("this node answers for load balancer addresses", "count", len(gained), "addresses", some(gained))
		a.metrics.takeovers.Add(float64(len(gained)))
	}
	if len(lost) > 0 {
		log.Info("this node does not answer for load balancer addresses any more", "count", len(lost), "addresses", some(lost))
	}
	for _, address := range gained {
		a.options.Taken(address)
	}
	for address, message := range conflicts {
		log.Warn("a load balancer address is taken", "address", address, "conflict", message)
		a.metrics.conflicts.Inc()
		a.options.Conflict(address, message)
	}
}

// some names the first ones of many.
func some(addresses []netip.Addr) string {
	const many = 10
	slices.SortFunc(addresses, netip.Addr.Compare)
	var names []string
	for _, a := range addresses[:min(many, len(addresses))] {
		names = append(names, a.String())
	}
	if len(addresses) > many {
		names = append(names, fmt.Sprintf("and %d more", len(addresses)-many))
	}
	return strings.Join(names, " ")
}
