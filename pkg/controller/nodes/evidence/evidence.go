package evidence

import (
	"fmt"
	"time"
)

// Mode is how much evidence it takes.
type Mode string

// The modes.
const (
	// Conservative wants a Lease of half its duration, 20 s as a rule.
	Conservative Mode = "conservative"
	// Fast wants a Lease that was not renewed since the node fell silent, if others
	// agree that it is, and else one that is older than its renewals are apart.
	Fast Mode = "fast"
)

const (
	// longSilence is how long a node has to be silent, for all who hear of it.
	longSilence = 3 * time.Second
	// longDead: a node that was dead for so long does not die at once with others.
	longDead = 5 * time.Minute
	// usualDuration is what a kubelet writes into its Lease.
	usualDuration = 40 * time.Second
)

// State is what somebody hears of a node.
type State int

// The states.
const (
	// Unknown: nothing was ever heard.
	Unknown State = iota
	// Alive: there are signs of life.
	Alive
	// Silent: there were, and are no more.
	Silent
)

// Opinion is what one node hears of another; Silence is for how long it is Silent.
type Opinion struct {
	State   State
	Silence time.Duration
}

// Lease is the one that the node's kubelet renews.
type Lease struct {
	// Known is false if it does not exist or could not be read.
	Known bool
	// Version is another one after each renewal.
	Version string
	// Renewed is by the clock of the node.
	Renewed time.Time
	// Duration is what the Lease says, 0 if it says nothing.
	Duration time.Duration
}

func (l Lease) duration() time.Duration {
	if l.Duration <= 0 {
		return usualDuration
	}
	return l.Duration
}

// interval is what passes between two renewals of a kubelet, a quarter of the
// duration, and a second for the renewal.
func (l Lease) interval() time.Duration { return l.duration()/4 + time.Second }

// Suspect is a node of which this one hears nothing, though it did.
type Suspect struct {
	Node string
	// Silence is for how long.
	Silence time.Duration
	// Peers has what others hear of it who could be asked.
	Peers []Opinion
	Lease Lease
	// Fresh says that Peers and Lease were looked at just now. A node is not taken
	// to be dead because of what was seen earlier.
	Fresh bool
}

// Input is what there is to weigh.
type Input struct {
	Mode Mode
	Now  time.Time
	// Nodes is how many nodes there are, with this one.
	Nodes int
	// Suspects are all nodes that are silent for this one, whatever others hear.
	Suspects []Suspect
}

// Memory is what is kept from one Weigh to the next, by node. Nil has none.
type Memory map[string]Entry

// Entry is what is remembered of a suspect.
type Entry struct {
	// Look is when its Lease was first seen to have the version Version, in this
	// silence, and Renewed whether that was not its first version in it.
	Look    time.Time
	Version string
	Renewed bool
	// Dead is since when it is taken to be dead, zero if it is not, and Why why.
	Dead time.Time
	Why  string
}

// Outcome is what follows.
type Outcome struct {
	// Dead are the nodes that are taken to be dead, each with the reason in words,
	// which stays the same as long as it is dead.
	Dead map[string]string
	// Kept are those that have been silent for long and are not taken to be dead,
	// each with the reason in words.
	Kept map[string]string
	// TooMany says that all are kept because they are so many.
	TooMany bool
	// Memory is for the next Weigh.
	Memory Memory
}

// TooMany says whether so many nodes are silent at once that it is this node that
// does not hear them: more than a third, but one may always be.
func TooMany(silent, nodes int) bool { return silent > 1 && 3*silent > nodes }

// Weigh decides which of the suspects are dead.
func Weigh(in Input, before Memory) Outcome {
	out := Outcome{Dead: map[string]string{}, Kept: map[string]string{}, Memory: Memory{}}
	long := 0
	for _, s := range in.Suspects {
		if before[s.Node].deadForLong(in.Now) {
			long++
		}
	}
	silent, nodes := len(in.Suspects)-long, in.Nodes-long
	out.TooMany = TooMany(silent, nodes)
	for _, s := range in.Suspects {
		e := before[s.Node]
		e.see(s, in.Now)
		why, contradicted := e.contradicts(s, in.Now)
		switch {
		case out.TooMany && !e.deadForLong(in.Now):
			e.Dead, e.Why = time.Time{}, ""
			why = fmt.Sprintf("%d of %d nodes are silent at once", silent, nodes)
		case contradicted:
			e.Dead, e.Why = time.Time{}, ""
		case e.Dead.IsZero():
			if why = e.lacks(s, in); why == "" {
				e.Dead, e.Why = in.Now, e.words(s, in.Now)
			}
		}
		out.Memory[s.Node] = e
		switch {
		case !e.Dead.IsZero():
			out.Dead[s.Node] = e.Why
		case s.Silence >= longSilence:
			out.Kept[s.Node] = why
		}
	}
	return out
}

func (e Entry) deadForLong(now time.Time) bool {
	return !e.Dead.IsZero() && now.Sub(e.Dead) > longDead
}

// see takes in the version of the Lease.
func (e *Entry) see(s Suspect, now time.Time) {
	if !s.Lease.Known || s.Lease.Version == e.Version {
		return
	}
	e.Renewed = e.Version != ""
	e.Version, e.Look = s.Lease.Version, now
}

// age is how old the Lease is: since a renewal that was seen here; else by its own
// time, or longer if it has been seen here to be older. The clock of its node may
// be ahead or behind.
func (e Entry) age(s Suspect, now time.Time) time.Duration {
	if e.Renewed {
		return now.Sub(e.Look)
	}
	return max(now.Sub(s.Lease.Renewed), now.Sub(e.Look))
}

// contradicts says whether somebody has heard of the node since it fell silent,
// and who.
func (e Entry) contradicts(s Suspect, now time.Time) (why string, yes bool) {
	for _, p := range s.Peers {
		if p.State == Alive {
			return "another node hears it", true
		}
	}
	// One of these renewals was before the first look, and only its time tells.
	// That is doubtful once there should have been another.
	early := s.Lease.Renewed.After(now.Add(-s.Silence)) && now.Sub(e.Look) <= s.Lease.interval()
	if s.Lease.Known && (e.Renewed || early) && e.age(s, now) <= s.Lease.duration() {
		return fmt.Sprintf("its Lease was renewed %s ago, after it fell silent", seconds(e.age(s, now))), true
	}
	return "", false
}

// lacks says what is missing for the node to be dead; empty if nothing is.
func (e Entry) lacks(s Suspect, in Input) string {
	agree := 0
	for _, p := range s.Peers {
		if p.State != Silent {
			continue
		}
		if p.Silence < longSilence {
			return "another node has heard it a moment ago"
		}
		agree++
	}
	switch {
	case s.Silence < longSilence:
		return "not silent for long"
	case !s.Fresh:
		return "not looked at yet"
	case !s.Lease.Known:
		return "its Lease cannot be read"
	case in.Mode == Conservative && agree == 0 && in.Nodes > 2:
		return "no other node says so"
	}
	if age, needed := e.age(s, in.Now), needed(in.Mode, agree, s.Lease); age <= needed {
		return fmt.Sprintf("its Lease is %s old, not yet %s", seconds(age), seconds(needed))
	}
	return ""
}

// needed is what the Lease has to be older than.
func needed(mode Mode, agree int, l Lease) time.Duration {
	switch {
	case mode != Fast:
		return l.duration() / 2
	case agree == 0:
		return l.interval()
	}
	return 0 // it was not renewed since, or it would contradict
}

func (e Entry) words(s Suspect, now time.Time) string {
	return fmt.Sprintf("silent for %s, Lease %s old", seconds(s.Silence), seconds(e.age(s, now)))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds())) }
