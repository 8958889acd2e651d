package verdict

// Backend is one of those that stand in for each other: the ones of one family of
// a Service.
type Backend struct {
	// Findings are those of the nodes that were asked and answered.
	Findings []Finding
	// Last is what a majority said when there last was one; Unknown if never.
	Last State
	// Published says that it gets packets now.
	Published bool
}

// Opinion is what follows for a Backend.
type Opinion struct {
	// State is what a majority says, or said last.
	State State
	// Finding is one of those that say Down, if that is the State and somebody
	// says so now.
	Finding Finding
	// Works says that it should get packets.
	Works bool
}

// Quorum returns how many of the nodes that check have to agree, if there are so
// many nodes: the majority of those of them that check.
func Quorum(nodes int) int { return min(max(nodes, 1), Checkers)/2 + 1 }

// Checkers is how many nodes check a backend.
const Checkers = 3

// Decide returns an Opinion for each Backend, and whether none would work, so that
// all of them are to get packets.
//
//   - A majority, of quorum nodes, decides.
//   - Without one it stays as it was. One that is new waits, if others work.
//   - If none would be left, or blind says that nobody has been able to say
//     anything for long, all work.
func Decide(backends []Backend, quorum int, blind bool) (out []Opinion, open bool) {
	out = make([]Opinion, len(backends))
	open = true
	for i := range backends {
		out[i] = backends[i].decide(quorum)
		if out[i].Works && !blind {
			open = false
		}
	}
	if open {
		for i := range out {
			out[i].Works = true
		}
	}
	return out, open && len(backends) > 0
}

func (b *Backend) decide(quorum int) Opinion {
	up, down := 0, 0
	out := Opinion{State: b.Last}
	for _, f := range b.Findings {
		switch f.State {
		case Unknown:
		case Up:
			up++
		case Down:
			down++
			out.Finding = f
		}
	}
	switch {
	case up >= quorum:
		out.State = Up
	case down >= quorum:
		out.State = Down
	}
	if out.State != Down {
		out.Finding = Finding{}
	}
	out.Works = out.State == Up || out.State == Unknown && b.Published
	return out
}
