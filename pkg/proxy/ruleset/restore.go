package ruleset

import (
	"slices"
	"strings"
)

// Change is what has to be written so that the kernel comes to hold a Set. The
// same two Sets always give the same Change.
type Change struct {
	// Write are the chains to write anew, in the order of Key.Compare.
	Write []*Chain
	// Delete are the chains to delete, in the same order.
	Delete []Key
}

// Diff returns the change from old to next. Its cost follows the number of
// chains that differ when one Set was made from the other by With.
func Diff(old, next *Set) Change {
	var change Change
	for i, now := range next.shards {
		was := old.shards[i]
		if now == was {
			continue
		}
		for k, c := range now.all() {
			if !c.equal(was.all()[k]) {
				change.Write = append(change.Write, c)
			}
		}
		for k := range was.all() {
			if now.all()[k] == nil {
				change.Delete = append(change.Delete, k)
			}
		}
	}
	change.sort()
	return change
}

// Replace returns the change that makes the kernel hold next whatever its
// chains hold now: everything is written, and those of existing that are
// Signpost's own and not in next are deleted. No chain is ever missing or empty
// in between, as far as each table is written at once.
func Replace(next *Set, existing []Key) Change {
	var change Change
	for c := range next.All() {
		change.Write = append(change.Write, c)
	}
	for _, k := range existing {
		if k.Own() && next.Get(k) == nil {
			change.Delete = append(change.Delete, k)
		}
	}
	change.sort()
	return change
}

func (c *Change) sort() {
	slices.SortFunc(c.Write, func(a, b *Chain) int { return a.Compare(b.Key) })
	slices.SortFunc(c.Delete, Key.Compare)
	c.Delete = slices.Compact(c.Delete)
}

// Empty reports whether there is nothing to write.
func (c Change) Empty() bool { return len(c.Write) == 0 && len(c.Delete) == 0 }

// Rules returns the number of rules that the change writes.
func (c Change) Rules() int {
	n := 0
	for _, chain := range c.Write {
		n += len(chain.Rules)
	}
	return n
}

// Text returns the change as input for iptables-restore --noflush; empty for an
// empty change.
//
// Within a table all chains are declared first, which creates those that are
// missing and empties the others, so that a rule can lead to any of them. Those
// to delete are emptied in the same way and deleted last, when no rule leads to
// them any more.
func (c Change) Text() string {
	var b strings.Builder
	b.Grow(128 * (c.Rules() + len(c.Write)))
	for _, t := range Tables() {
		write := inTable(c.Write, t, func(c *Chain) Table { return c.Table })
		gone := inTable(c.Delete, t, func(k Key) Table { return k.Table })
		if len(write)+len(gone) > 0 {
			writeTable(&b, t, write, gone)
		}
	}
	return b.String()
}

// inTable returns the part of sorted that belongs to t.
func inTable[E any](sorted []E, t Table, table func(E) Table) []E {
	in := func(e E) bool { return table(e) == t }
	from := slices.IndexFunc(sorted, in)
	if from < 0 {
		return nil
	}
	n := slices.IndexFunc(sorted[from:], func(e E) bool { return !in(e) })
	if n < 0 {
		n = len(sorted) - from
	}
	return sorted[from : from+n]
}

func writeTable(b *strings.Builder, t Table, write []*Chain, gone []Key) {
	line(b, "*", string(t))
	for _, c := range write {
		line(b, ":", c.Name, " - [0:0]")
	}
	for _, k := range gone {
		line(b, ":", k.Name, " - [0:0]")
	}
	for _, c := range write {
		for _, r := range c.Rules {
			line(b, "-A ", c.Name, " ", string(r))
		}
	}
	for _, k := range gone {
		line(b, "-X ", k.Name)
	}
	line(b, "COMMIT")
}

func line(b *strings.Builder, parts ...string) {
	for _, p := range parts {
		b.WriteString(p)
	}
	b.WriteByte('\n')
}

// Committed returns the tables that iptables-restore has committed when it
// stops at the given line of text, counted from 1: those whose COMMIT comes
// before that line.
func Committed(text string, stop int) []Table {
	var out []Table
	var current Table
	n := 0
	for l := range strings.SplitSeq(text, "\n") {
		n++
		if n >= stop {
			break
		}
		if name, ok := strings.CutPrefix(l, "*"); ok {
			current = Table(name)
		}
		if l == "COMMIT" {
			out = append(out, current)
		}
	}
	return out
}
