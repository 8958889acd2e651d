package peers

import "time"

// State is what probes say of a node.
type State uint8

// The states.
const (
	// Unknown: the node is not probed, or was never heard of.
	Unknown State = iota
	// Alive: it gives signs of life.
	Alive
	// Silent: it has given signs of life, and does not any more.
	Silent
)

func (s State) String() string {
	switch s {
	case Alive:
		return "alive"
	case Silent:
		return "silent"
	default:
		return "unknown"
	}
}

// Opinion is what one node hears of another.
type Opinion struct {
	State State
	// Silence is for how long it is Silent: since the first probe that was sent
	// after the last sign of life. 0 in the other states.
	Silence time.Duration
}

const (
	// period is the time between two probes of a node.
	period = time.Second
	// manyMisses is how many probes in a row make a node Silent: one may be lost.
	manyMisses = 2
	// asleep: a process that has not probed for so long has not been running, and
	// what it did not hear in that time says nothing.
	asleep = 3 * period
)

// life is what is known of a node from probes. The zero value is a node that was
// never heard of.
type life struct {
	heard bool
	// sent is when the last probe was sent.
	sent time.Time
	// missed is when the first was sent of the misses that came after the last
	// sign of life.
	missed time.Time
	misses int
}

// probed notes that a probe is being sent.
func (l *life) probed(now time.Time) {
	if now.Sub(l.sent) > asleep {
		l.misses = 0
	}
	if l.misses == 0 {
		l.missed = now
	}
	l.misses++
	l.sent = now
}

// sign notes a sign of life.
func (l *life) sign() { l.heard, l.misses = true, 0 }

// vouched notes that others heard of a node that this one has not heard of, but
// have heard nothing for a time.
func (l *life) vouched(now time.Time, silence time.Duration) {
	if l.heard {
		return
	}
	l.heard = true
	l.misses = max(l.misses, manyMisses)
	l.missed, l.sent = now.Add(-silence), now
}

// opinion is what follows from that. Silence ends where the last probe may still
// be answered: the process may have slept since.
func (l *life) opinion(now time.Time) Opinion {
	switch {
	case !l.heard || now.Sub(l.sent) > asleep:
		return Opinion{}
	case l.misses < manyMisses:
		return Opinion{State: Alive}
	}
	until := l.sent.Add(period)
	if now.Before(until) {
		until = now
	}
	return Opinion{State: Silent, Silence: until.Sub(l.missed)}
}
