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
	// Create are the IP sets that have to exist before anything is written, sorted.
	// Most of them may be there already.
	Create []string
	// Destroy are the IP sets that may not be needed any more when all is written,
	// sorted. What the kernel says to be in use has to stay.
	Destroy []string

	// early are chains of filter as they have to be before nat is written.
	early []*Chain
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
			if before := was.all()[k]; !c.Equal(before) {
				change.write(before, c)
			}
		}
		for k, c := range was.all() {
			if now.all()[k] == nil {
				change.Delete = append(change.Delete, k)
				change.Destroy = append(change.Destroy, c.IPSets...)
			}
		}
	}
	change.sort()
	return change
}

func (c *Change) write(was, now *Chain) {
	c.Write = append(c.Write, now)
	c.Create = append(c.Create, now.IPSets...)
	if was != nil {
		c.Destroy = append(c.Destroy, was.IPSets...)
	}
	if now.Table == Filter {
		if e := both(was, now); e != nil {
			c.early = append(c.early, e)
		}
	}
}

// Replace returns the change that makes the kernel hold next whatever its
// chains hold now: everything is written, and those of existing that are
// Signpost's own and not in next are deleted. No chain is ever missing or empty
// in between, as far as each table is written at once. ipSets are the IP sets
// that exist.
func Replace(next *Set, existing []Key, ipSets ...string) Change {
	change := Change{Destroy: slices.Clone(ipSets)}
	for c := range next.All() {
		change.Write = append(change.Write, c)
		change.Create = append(change.Create, c.IPSets...)
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
	byKey := func(a, b *Chain) int { return a.Compare(b.Key) }
	slices.SortFunc(c.Write, byKey)
	slices.SortFunc(c.early, byKey)
	slices.SortFunc(c.Delete, Key.Compare)
	c.Delete = slices.Compact(c.Delete)
	slices.Sort(c.Create)
	c.Create = slices.Compact(c.Create)
	slices.Sort(c.Destroy)
	c.Destroy = slices.DeleteFunc(slices.Compact(c.Destroy), func(name string) bool {
		_, needed := slices.BinarySearch(c.Create, name)
		return needed
	})
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

// Parts returns the change as a series of changes to one table each, in the
// order in which they have to be written so that no packet meets a gap: rules
// that come to filter before nat, and those that go after it. So a Service that
// loses its last endpoint is rejected before it is forgotten, and one that gets
// its first is translated before it is no longer rejected; whoever is translated
// does not meet the rules that reject. Between the two, a chain of filter holds
// what it had and what it will have. Nothing of this can be known after Replace,
// which does nat first.
//
// The parts have no IP sets; those of the whole come before the first part and
// after the last.
func (c Change) Parts() []Change {
	var parts []Change
	add := func(write []*Chain, gone []Key) {
		if len(write)+len(gone) > 0 {
			parts = append(parts, Change{Write: write, Delete: gone})
		}
	}
	write := func(t Table) []*Chain { return inTable(c.Write, t, func(c *Chain) Table { return c.Table }) }
	gone := func(t Table) []Key { return inTable(c.Delete, t, func(k Key) Table { return k.Table }) }
	add(write(Raw), gone(Raw))
	early, late := c.early, write(Filter)
	if len(write(NAT))+len(gone(NAT)) == 0 {
		early = nil
	}
	done := make(map[*Chain]bool, len(early))
	for _, e := range early {
		done[e] = true
	}
	late = slices.DeleteFunc(slices.Clone(late), func(l *Chain) bool { return done[l] })
	add(early, nil)
	add(write(NAT), gone(NAT))
	add(late, gone(Filter))
	return parts
}

// both returns the chain with the rules that it had and those that it will have:
// now itself if none go, and nil if none come.
func both(was, now *Chain) *Chain {
	if was == nil {
		return now
	}
	had, has := counted(was.Rules), counted(now.Rules)
	out := &Chain{Key: now.Key}
	comes, goes := false, false
	i := 0
	for _, r := range now.Rules {
		// What goes stands before what stays, as it did.
		for ; i < len(was.Rules) && was.Rules[i] != r && has[was.Rules[i]] == 0; i++ {
			out.Rules = append(out.Rules, was.Rules[i])
			goes = true
		}
		if i < len(was.Rules) && was.Rules[i] == r {
			i++
		}
		out.Rules = append(out.Rules, r)
		comes = comes || had[r] == 0
	}
	for ; i < len(was.Rules); i++ {
		if has[was.Rules[i]] == 0 {
			out.Rules = append(out.Rules, was.Rules[i])
			goes = true
		}
	}
	switch {
	case !comes:
		return nil
	case !goes:
		return now
	}
	return out
}

func counted(rules []Rule) map[Rule]int {
	out := make(map[Rule]int, len(rules))
	for _, r := range rules {
		out[r]++
	}
	return out
}

// Text returns the change as input for iptables-restore --noflush, its parts one
// after the other; empty for an empty change.
func (c Change) Text() string {
	var b strings.Builder
	b.Grow(128 * (c.Rules() + len(c.Write)))
	for _, p := range c.Parts() {
		p.table(&b)
	}
	return b.String()
}

// After returns what the kernel holds when a restore of Text, from base,
// stopped at the given line of the text, counted from 1.
func (c Change) After(base *Set, line int) *Set {
	done := len(Committed(c.Text(), line))
	for _, p := range c.Parts()[:done] {
		base = base.Apply(p)
	}
	return base
}
