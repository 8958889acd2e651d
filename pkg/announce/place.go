package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/signpost-dev/signpost/pkg/announce/eligible"
	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// state is what is known of an address on the links.
type state uint8

const (
	// probing: it is being asked whether a stranger has it.
	probing state = iota
	// free: none has. Other nodes may.
	free
	// taken: one has.
	taken
)

// place is an address that this node may announce.
type place struct {
	eligible.Address
	// at are the links to announce it at, by index: those that have a port.
	at    []int
	state state
	// probes have been sent, and next is when to send one or to decide.
	probes int
	next   time.Time
	// stranger has answered, at a link of that name: anybody but this node.
	stranger frame.MAC
	where    string
	// told: somebody was told that it is taken.
	told bool
	// held: this node had it at the last look. Since then it was announced so many
	// times, and is to be again at that time.
	held      bool
	announced int
	again     time.Time
	// defended is when a stranger was last contradicted.
	defended time.Time
}

const (
	// manyProbes are sent, probePause apart, before an address is claimed: fewer and
	// faster than RFC 5227 has it, whose hosts wait for links that come up slowly.
	manyProbes = 3
	probePause = 200 * time.Millisecond
	// probeAgain is when somebody is asked again whether it still has what it took.
	probeAgain = 10 * time.Second
	// refresh is the time between two announcements of an address that is held: who
	// has missed all before, as it was cut off, learns of it in the end.
	refresh = time.Minute
	// defence is the time between two contradictions (RFC 5227, DEFEND_INTERVAL).
	defence = 10 * time.Second
)

// burst are the times of announcements at a take-over, since then: who does not
// hear the first one may hear another.
func burst() []time.Duration {
	return []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}
}

// news are what a look at a place brings.
type news struct {
	probe, announce bool
	// freed: it may be claimed from now on. conflict: it is taken, and nobody was
	// told so yet.
	freed, conflict bool
	taken, lost     bool
}

// ask does what is due of probes. Whoever has answered has the address: if that is
// a node which announces it, it has said so to this one as well, and the place is free.
func (p *place) ask(now time.Time) (n news) {
	switch {
	case p.state == free || len(p.at) == 0 || now.Before(p.next):
	case p.state == taken:
		p.state, p.stranger = probing, frame.MAC{}
		p.probes, p.next, n.probe = 1, now.Add(probePause), true
	case p.probes < manyProbes:
		p.probes, p.next, n.probe = p.probes+1, now.Add(probePause), true
	case p.stranger != (frame.MAC{}):
		p.state, p.next, n.conflict = taken, now.Add(probeAgain), !p.told
		p.told, p.probes = true, 0
	default:
		p.state, p.told, n.freed = free, false, true
	}
	return n
}

// look notes whether this node holds the address, and says what follows.
func (p *place) look(now time.Time, holds bool) (n news) {
	times := burst()
	switch {
	case !holds:
		n.lost, p.held = p.held, false
		return n
	case !p.held:
		n.taken, p.held = true, true
		p.announced, p.again = 0, now
	}
	if now.Before(p.again) {
		return n
	}
	n.announce = true
	p.announced++
	if p.announced < len(times) {
		p.again = p.again.Add(times[p.announced] - times[p.announced-1])
	} else {
		p.again = now.Add(refresh)
	}
	return n
}

// due is when there is something to do of the place; false if only others can
// bring that about.
func (p *place) due() (time.Time, bool) {
	switch {
	case p.held:
		return p.again, true
	case p.state != free && len(p.at) > 0:
		return p.next, true
	}
	return time.Time{}, false
}

// heard notes that somebody on a link says that it has the address. It returns
// true if that is to be contradicted: not what comes late of a node that had it.
func (p *place) heard(now time.Time, mac frame.MAC, where string, strange bool) (contradict bool) {
	p.stranger, p.where = mac, where
	if !p.held || !strange || now.Sub(p.defended) < defence {
		return false
	}
	p.defended = now
	return true
}

// conflict says what stands in the way of an address: a stranger, or a node that has
// it as one of its own.
func (p *place) conflict(address netip.Addr, strange bool) string {
	if !strange {
		return fmt.Sprintf("a node, %v at %s, has %v as an address of its own: it is not announced", p.stranger, p.where, address)
	}
	return fmt.Sprintf("%v answers for %v at %s, and is no node: the address is not announced here", p.stranger, address, p.where)
}

// placed takes over what is wished of the address, and at which links it can be. An
// address that is held is announced again where a link has come.
func (p *place) placed(now time.Time, wish eligible.Address, at []int) {
	if p.held && slices.ContainsFunc(at, func(i int) bool { return !slices.Contains(p.at, i) }) {
		p.announced, p.again = 0, now
	}
	p.Address, p.at = wish, at
}
