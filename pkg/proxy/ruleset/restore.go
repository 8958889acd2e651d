package ruleset

import (
	"slices"
	"strings"
)

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

// table writes a part.
//
// All chains are declared first, which creates those that are
// missing and empties the others, so that a rule can lead to any of them. Those
// to delete are emptied in the same way and deleted last, when no rule leads to
// them any more.
func (c Change) table(b *strings.Builder) {
	var t Table
	if len(c.Write) > 0 {
		t = c.Write[0].Table
	} else {
		t = c.Delete[0].Table
	}
	line(b, "*", string(t))
	for _, c := range c.Write {
		line(b, ":", c.Name, " - [0:0]")
	}
	for _, k := range c.Delete {
		line(b, ":", k.Name, " - [0:0]")
	}
	for _, c := range c.Write {
		for _, r := range c.Rules {
			line(b, "-A ", c.Name, " ", string(r))
		}
	}
	for _, k := range c.Delete {
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
// before that line, a table once for each time.
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
