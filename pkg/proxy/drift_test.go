package proxy_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// TestDamageIsMended checks that damage of any kind is mended in two seconds, and
// that no more is written than was damaged.
func TestDamageIsMended(t *testing.T) {
	chain := func(r *rig) string {
		existing, _ := r.tables.Fake.Existing(t.Context(), new(ruleset.Set))
		for c := range existing.Set.All() {
			if c.Table == ruleset.NAT && strings.Contains(c.Name, "10.96.") {
				return c.Name
			}
		}
		return "SIGNPOST-NO-SUCH-CHAIN"
	}
	for _, tt := range []struct {
		name   string
		damage func(r *rig) string
		// writes is how many chains are written again; 0 for those of a table.
		writes int
	}{
		{"all of nat", func(r *rig) string { r.tables.Flush(ruleset.NAT); return "" }, 0},
		{"all of filter", func(r *rig) string { r.tables.Flush(ruleset.Filter); return "" }, 0},
		{"one rule", func(r *rig) string {
			name := chain(r)
			return "*nat\n:" + name + " - [0:0]\n-A " + name + " -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j RETURN\nCOMMIT\n"
		}, 1},
		{"one chain", func(r *rig) string { return "*nat\n:" + chain(r) + " - [0:0]\nCOMMIT\n" }, 1},
		{"one more", func(*rig) string { return "*nat\n:SIGNPOST-MORE - [0:0]\nCOMMIT\n" }, 0},
		{"a hook", func(*rig) string { return "*nat\n:OTHER - [0:0]\n-A OTHER -j SIGNPOST-SERVICES\nCOMMIT\n" }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.source.publish(service(1, "10.0.2.1", "10.0.2.2"), service(2))
				defer r.run(t)()
				want := r.tables.Dump()
				writes := len(r.tables.Restores)
				if text := tt.damage(r); text != "" {
					if err := r.tables.Meddle(text); err != nil {
						t.Fatal(err)
					}
				}
				if r.tables.Dump() == want {
					t.Fatal("nothing is damaged")
				}
				r.after(2 * time.Second)
				if diff := cmp.Diff(want, strings.ReplaceAll(r.tables.Dump(), ":OTHER - [0:0]\n", "")); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				more := strings.Join(r.tables.Restores[writes:], "")
				if got := strings.Count(more, "\n:"); tt.writes > 0 && got != tt.writes {
					t.Errorf("%d chains are written, want %d:\n%s", got, tt.writes, more)
				}
				if err := testutil.GatherAndCompare(r.metrics, strings.NewReader(`
# HELP signpost_proxy_repairs_total Number of times that rules were found damaged, and mended.
# TYPE signpost_proxy_repairs_total counter
signpost_proxy_repairs_total{ip_family="IPv4"} 1
`), "signpost_proxy_repairs_total"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestNothingIsReadWhileNobodyWrites checks what it costs to look.
func TestNothingIsReadWhileNobodyWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.reads = time.Second
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.after(time.Minute)
		before := r.tables.read
		r.after(time.Hour)
		if n := r.tables.read - before; n > 4 {
			t.Errorf("the rules were read %d times in an hour, which takes a second each time", n)
		}
		before = r.tables.read
		for range 60 {
			if err := r.tables.Meddle("*nat\n:OTHER - [0:0]\nCOMMIT\n"); err != nil {
				t.Fatal(err)
			}
			r.after(time.Second)
		}
		if n := r.tables.read - before; n < 8 || n > 15 {
			t.Errorf("somebody writes all the time: the rules were read %d times in a minute", n)
		}
	})
}

// TestBlindWitness checks that damage is mended also where it cannot be seen that
// others write, only later.
func TestBlindWitness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.unseeing = errors.New("no such thing in this kernel")
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.after(time.Minute)
		r.tables.Flush(ruleset.NAT)
		r.after(31 * time.Second)
		if got := r.goesTo(1); got != to("10.0.2.1") {
			t.Error(got)
		}
		if n := strings.Count(r.log.String(), "cannot see whether"); n != 1 {
			t.Errorf("said %d times that others are not seen:\n%s", n, r.log)
		}
	})
}

// TestOddListing checks that a chain that a program lists otherwise than it was
// written is not mended for ever, and that real damage to it is.
func TestOddListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.tables.lists = func(s *ruleset.Set) *ruleset.Set {
			changes := map[ruleset.Key]*ruleset.Chain{}
			for c := range s.All() {
				odd := &ruleset.Chain{Key: c.Key}
				for _, rule := range c.Rules {
					odd.Rules = append(odd.Rules, "-m comment --comment listed "+rule)
				}
				changes[c.Key] = odd
			}
			return s.With(changes)
		}
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.after(time.Hour)
		writes := len(r.tables.Restores)
		r.after(time.Hour)
		if n := len(r.tables.Restores) - writes; n > 0 {
			t.Errorf("%d writes in an hour in which nothing happened", n)
		}
		r.tables.Flush(ruleset.NAT)
		r.after(5 * time.Second)
		if got := r.goesTo(1); got != to("10.0.2.1") {
			t.Error(got)
		}
	})
}

// TestDamageDuringTheRepair checks that what is damaged while something else is
// mended is not taken for an odd listing.
func TestDamageDuringTheRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.source.publish(service(1, "10.0.2.1"))
		defer r.run(t)()
		r.after(time.Minute)
		r.tables.wrote = func() {
			r.tables.wrote = nil
			r.tables.Flush(ruleset.NAT)
		}
		r.tables.Flush(ruleset.Filter)
		r.after(5 * time.Second)
		if got := r.goesTo(1); got != to("10.0.2.1") {
			t.Error(got)
		}
	})
}
