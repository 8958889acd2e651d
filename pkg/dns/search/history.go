package search

import (
	"slices"
	"strings"
	"time"
)

const (
	// remembered is how many searches of a client are remembered.
	remembered = 64
	// underWay is how long a search takes at most: a step may wait five seconds for
	// its answer, and be asked twice.
	underWay = 15 * time.Second
	// evident is how long a client is known to search for a name.
	evident = time.Hour
)

// History is what a client has searched for lately. The zero value is ready for
// use; it must not be used by two goroutines at a time. It takes a few kilobytes at
// most.
type History struct {
	searches []search
}

// search is a name whose first step was asked for.
type search struct {
	base string
	last time.Time
	// searched is set once a later step was asked for, too: only who searches does.
	searched bool
}

// note remembers that the first step for base was asked for, and reports whether
// the client is known to search for it.
func (h *History) note(base string, now time.Time) (searched bool) {
	oldest := 0
	for i := range h.searches {
		s := &h.searches[i]
		if s.base == base {
			s.searched = s.searched && now.Sub(s.last) < evident
			s.last = now
			return s.searched
		}
		if s.last.Before(h.searches[oldest].last) {
			oldest = i
		}
	}
	fresh := search{base: strings.Clone(base), last: now}
	if len(h.searches) < remembered {
		h.searches = append(h.searches, fresh)
		return false
	}
	h.searches[oldest] = fresh
	return false
}

// isLaterStep reports whether name is what a search that is under way asks for
// next, or will, and takes it for that.
func (h *History) isLaterStep(name string, r Resolver, now time.Time) bool {
	found := false
	for i := range h.searches {
		s := &h.searches[i]
		if now.Sub(s.last) > underWay {
			continue
		}
		switch rest, ok := strings.CutPrefix(name, s.base); {
		case !ok:
		case rest == "":
			found = true
			// Who asks for the name alone may mean just that.
			s.searched = s.searched || len(r.Domains) == 1
		case rest[0] == '.' && slices.Contains(r.Domains[1:], rest[1:]):
			found, s.searched = true, true
		}
	}
	return found
}
