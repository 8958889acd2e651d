package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Rules that others have damaged are found and mended within seconds, at the
// price of a system call each second while nothing happens. Only when others have
// written are the rules read, which takes time in proportion to their number;
// then the reading is spaced so that it takes a fifth of a processor at most while
// others go on writing. As not all that others do is seen, the rules are read without
// cause, too, with a thousandth of a processor at most.
const (
	watchPeriod = time.Second
	whenTouched = 4
	withoutSign = 1000
)

// check says when to compare the rules with what they should be.
type check struct{ touched, regular time.Time }

// due reports whether it is time.
func (c *check) due(now time.Time, untouched bool) bool {
	return !now.Before(c.regular) || !untouched && !now.Before(c.touched)
}

// done plans the next comparison after one that took so long.
func (c *check) done(now time.Time, took, period time.Duration) {
	c.touched = now.Add(whenTouched * took)
	c.regular = now.Add(max(period, withoutSign*took))
}

// oddity is a chain that a program lists otherwise than it was written, in a way that
// ruleset.Canonical does not know.
type oddity struct{ written, listed *ruleset.Chain }

// excuse returns found with the chains that are as they should be, oddly listed.
func excuse(found, want *ruleset.Set, odd map[ruleset.Key]oddity) *ruleset.Set {
	changes := map[ruleset.Key]*ruleset.Chain{}
	for k, o := range odd {
		if want.Get(k) == o.written && found.Get(k).Equal(o.listed) {
			changes[k] = o.written
		}
	}
	return found.With(changes)
}

// patrol compares the rules with what they should be if it is time, and reports
// whether there is something to mend.
func (f *programmer) patrol(ctx context.Context, period time.Duration) bool {
	if f.base == nil || !f.begun {
		return false // they will be written anyway
	}
	untouched, err := f.tables.Untouched(ctx)
	if err != nil && !f.unseeing {
		f.unseeing = true
		f.log.Warn("cannot see whether others write rules, will only look now and then", "family", f.family.String(), "error", err)
	}
	begin := time.Now()
	if !f.check.due(begin, untouched || err != nil) {
		return false
	}
	damaged, err := f.compare(ctx)
	if err != nil && ctx.Err() == nil {
		f.log.Warn("cannot look whether the rules are as they should be", "family", f.family.String(), "error", err)
	}
	end := time.Now()
	f.check.done(end, end.Sub(begin), period)
	return damaged
}

// compare reads the rules and notes what the kernel really holds, so that a
// commit mends them. It reports whether they are damaged.
func (f *programmer) compare(ctx context.Context) (bool, error) {
	existing, err := f.tables.Existing(ctx, f.base)
	if err != nil {
		return false, err
	}
	found := excuse(&existing.Set, f.base, f.odd)
	damage := f.damage(existing, found)
	if damage == "" {
		return false, nil
	}
	f.log.Warn("somebody has damaged the rules, mending them", "family", f.family.String(), "damage", damage)
	f.metrics.repairs.Inc()
	if err := f.tables.DeleteJumps(ctx, existing.Stale(f.hooked)); err != nil {
		return false, err
	}
	f.base, f.hooked, f.mending = found, existing.Hooked(f.hooked), true
	return true, nil
}

// named is how many chains are named in a message.
const named = 5

// damage says what is not as it should be, or "".
func (f *programmer) damage(existing *ruleset.Existing, found *ruleset.Set) string {
	var out []string
	hooked := existing.Hooked(f.hooked)
	for _, h := range f.hooked {
		if !slices.Contains(hooked, h) {
			out = append(out, fmt.Sprintf("table %s: %s does not lead to %s any more", h.Chain.Table, h.Chain.Name, h.Target))
		}
	}
	for _, j := range existing.Stale(f.hooked) {
		out = append(out, fmt.Sprintf("table %s: %s leads to %s", j.From.Table, j.From.Name, j.Target))
	}
	change := ruleset.Diff(found, f.base)
	for _, c := range change.Write {
		what := "is not as it was written"
		if found.Get(c.Key) == nil {
			what = "is missing"
		}
		out = append(out, fmt.Sprintf("table %s: chain %s %s", c.Table, c.Name, what))
	}
	for _, k := range change.Delete {
		out = append(out, fmt.Sprintf("table %s: nobody needs chain %s", k.Table, k.Name))
	}
	if n := len(out); n > named {
		out = append(out[:named], fmt.Sprintf("and %d more", n-named))
	}
	return strings.Join(out, "; ")
}

// mended follows a commit after damage. What still differs though nobody else has
// written is not damaged but oddly listed.
func (f *programmer) mended(ctx context.Context) {
	if !f.mending {
		return
	}
	f.mending = false
	if !f.untouched(ctx) {
		return // the next comparison tells
	}
	existing, err := f.tables.Existing(ctx, f.base)
	if err != nil || !f.untouched(ctx) {
		return
	}
	found := &existing.Set
	for _, c := range ruleset.Diff(found, f.base).Write {
		if listed := found.Get(c.Key); listed != nil {
			f.log.Info("a chain is listed otherwise than it was written", "family", f.family.String(), "table", string(c.Table), "chain", c.Name)
			f.odd[c.Key] = oddity{written: c, listed: listed}
		}
	}
}

// untouched reports whether surely nobody else has written since the rules were
// read last.
func (f *programmer) untouched(ctx context.Context) bool {
	untouched, err := f.tables.Untouched(ctx)
	return untouched && err == nil
}
