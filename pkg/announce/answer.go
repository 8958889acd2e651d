package announce

import (
	"net/netip"
	"slices"
	"time"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// heardARP answers a question, and notes who else has an address.
func (a *Announcer) heardARP(p *port, packet frame.ARP) {
	if packet.SenderIP != netip.IPv4Unspecified() {
		a.heardOwner(p, packet.SenderIP, packet.Sender)
	}
	if !packet.Asks() || !a.answers(p, packet.TargetIP) {
		return
	}
	if p.answerARP(packet) == nil {
		a.metrics.answers.WithLabelValues("arp").Inc()
	}
}

func (a *Announcer) heardSolicitation(p *port, source netip.Addr, s frame.Solicitation) {
	if !a.answers(p, s.Target) {
		return
	}
	if p.answerNDP(source, s) == nil {
		a.metrics.answers.WithLabelValues("ndp").Inc()
	}
}

func (a *Announcer) heardAdvertisement(p *port, ad frame.Advertisement) {
	a.heardOwner(p, ad.Target, ad.MAC)
}

// answers says whether this node is to answer for an address at a port, by what it
// knows at this moment: a seat can end at any time.
func (a *Announcer) answers(p *port, address netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	place := a.places[address]
	return a.node != nil && place != nil && slices.Contains(place.at, p.link.index) && a.node.Holds(time.Now(), address)
}

// heardOwner notes that somebody says to have an address. A stranger who says so of
// one that this node has is contradicted (RFC 5227, 2.4c).
func (a *Announcer) heardOwner(p *port, address netip.Addr, mac frame.MAC) {
	a.mu.Lock()
	place := a.places[address]
	if place == nil || a.node == nil || mac == (frame.MAC{}) || slices.Contains(a.own(), mac) || !slices.Contains(place.at, p.link.index) {
		a.mu.Unlock()
		return
	}
	contradict := place.heard(time.Now(), mac, p.link.name, a.strange(mac)) && a.node.Holds(time.Now(), address)
	a.mu.Unlock()
	if !contradict {
		return
	}
	a.metrics.conflicts.Inc()
	a.options.Log.Warn("somebody else answers for an address of this node, which says so again", "address", address, "interface", p.link.name, "mac", mac.String())
	_ = p.announce(address)
}
