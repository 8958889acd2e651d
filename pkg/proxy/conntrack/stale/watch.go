package stale

import (
	"maps"
	"time"
)

// When a kind of flows is looked for after a change.
var (
	// A datagram may have passed the old rules and have its flow entered only
	// after a look that came right behind the new ones; so there is another.
	firstLook = [kinds]time.Duration{Datagrams: 0, Handshakes: 500 * time.Millisecond}
	// A handshake of a server that lives is over by then; a client whose first attempt was lost
	// makes its second after a second.
	lastLook = [kinds]time.Duration{Datagrams: 50 * time.Millisecond, Handshakes: 500 * time.Millisecond}
)

// watch is what is known of a front end that is looked after.
type watch struct {
	since time.Time
	// looked: the first look was made.
	looked bool
	// gone are the endpoints whose flows are to be cut.
	gone set
	// serving are those whose flows stay.
	serving set
	// opened: there was nobody before.
	opened bool
}

// join adds what has not been done yet of an earlier watch of the same front end.
func (w *watch) join(earlier *watch) {
	if len(w.gone) == 0 && !w.opened {
		w.since, w.looked = earlier.since, earlier.looked
	}
	maps.Copy(w.gone, without(earlier.gone, w.serving))
	w.opened = w.opened || earlier.opened && len(w.serving) > 0
}

// due returns when w is to be looked after next.
func (w *watch) due(k Kind) time.Time {
	if w.looked {
		return w.since.Add(lastLook[k])
	}
	return w.since.Add(firstLook[k])
}

// Next returns when the next Look is due; zero if none is.
func (b *Book) Next() time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, k := range Kinds() {
		if b.adopting[k] != nil {
			sooner(b.adopting[k].due(k))
		}
		for _, w := range b.watches[k] {
			sooner(w.due(k))
		}
	}
	return next
}

// Look returns what to look for now, or nil. It holds until the next call of a method of b.
func (b *Book) Look(k Kind, now time.Time) *Look {
	l := &Look{book: b, kind: k, at: now, watches: map[FrontEnd]*watch{}}
	for f, w := range b.watches[k] {
		if !w.due(k).After(now) {
			l.watches[f] = w
		}
	}
	if a := b.adopting[k]; a != nil && !a.due(k).After(now) {
		l.adopting = a
		l.served = map[FrontEnd]set{}
	}
	if l.adopting == nil && len(l.watches) == 0 {
		return nil
	}
	return l
}

// Done notes that l was looked for, to the end of the table.
func (b *Book) Done(l *Look) {
	last := func(w *watch) bool { return !l.at.Before(w.since.Add(lastLook[l.kind])) }
	for f, w := range l.watches {
		if w.looked = true; last(w) {
			delete(b.watches[l.kind], f)
		}
	}
	if a := l.adopting; a != nil {
		if a.looked = true; last(a) {
			b.adopting[l.kind] = nil
		}
	}
	if !b.isAdopting() {
		b.former = former{}
	}
}
