package ruleset

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func chain(t Table, name string, rules ...Rule) *Chain {
	return &Chain{Key: Key{t, Prefix + name}, Rules: rules}
}

func setOf(chains ...*Chain) *Set {
	changes := map[Key]*Chain{}
	for _, c := range chains {
		changes[c.Key] = c
	}
	return (&Set{}).With(changes)
}

func TestChangeAsText(t *testing.T) {
	base := setOf(
		chain(NAT, "A", "-j "+Prefix+"B"), chain(NAT, "B", "-j RETURN"), chain(NAT, "C"),
		chain(Filter, "A", "-j DROP"), chain(Raw, "A"))
	tests := []struct {
		name   string
		change Change
		want   string
	}{
		{"nothing", Diff(base, base), ""},
		{"nothing, by value", Diff(base, base.With(map[Key]*Chain{{NAT, Prefix + "B"}: chain(NAT, "B", "-j RETURN")})), ""},
		{"one rule", Diff(base, base.With(map[Key]*Chain{{Filter, Prefix + "A"}: chain(Filter, "A", "-j ACCEPT")})),
			"*filter\n:SIGNPOST-A - [0:0]\n-A SIGNPOST-A -j ACCEPT\nCOMMIT\n"},
		{"a chain that was referred to goes after the rule that did",
			Diff(base, base.With(map[Key]*Chain{{NAT, Prefix + "B"}: nil, {NAT, Prefix + "A"}: chain(NAT, "A")})),
			"*nat\n:SIGNPOST-A - [0:0]\n:SIGNPOST-B - [0:0]\n-X SIGNPOST-B\nCOMMIT\n"},
		{"everything", Replace(base, []Key{{NAT, Prefix + "OLD"}, {NAT, Prefix + "B"}, {NAT, "PREROUTING"}, {Filter, "KUBE-X"}}),
			"*raw\n:SIGNPOST-A - [0:0]\nCOMMIT\n" +
				"*nat\n:SIGNPOST-A - [0:0]\n:SIGNPOST-B - [0:0]\n:SIGNPOST-C - [0:0]\n:SIGNPOST-OLD - [0:0]\n" +
				"-A SIGNPOST-A -j SIGNPOST-B\n-A SIGNPOST-B -j RETURN\n-X SIGNPOST-OLD\nCOMMIT\n" +
				"*filter\n:SIGNPOST-A - [0:0]\n-A SIGNPOST-A -j DROP\nCOMMIT\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.change.Text()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if tt.change.Empty() != (tt.want == "") {
				t.Errorf("Empty() = %t", tt.change.Empty())
			}
		})
	}
}

// TestSetBehavesLikeAMap runs random changes against a plain map, and checks that
// Diff finds what differs and that older Sets stay as they were.
func TestSetBehavesLikeAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	set, plain := &Set{}, map[Key]*Chain{}
	for range 300 {
		changes := map[Key]*Chain{}
		for range rng.IntN(15) {
			c := chain(Tables()[rng.IntN(3)], fmt.Sprint(rng.IntN(150)), Rule(fmt.Sprint("-j X", rng.IntN(3))))
			changes[c.Key] = c
			if rng.IntN(3) == 0 {
				changes[c.Key] = nil
			}
		}
		before, was := set, maps.Clone(plain)
		set = set.With(changes)
		for k, c := range changes {
			if c == nil {
				delete(plain, k)
			} else {
				plain[k] = c
			}
		}
		assertHolds(t, set, plain)
		assertHolds(t, before, was)
		assertDiff(t, Diff(before, set), was, plain)
	}
}

func assertHolds(t *testing.T, s *Set, want map[Key]*Chain) {
	t.Helper()
	rules := map[Table]int{}
	n := 0
	for c := range s.All() {
		n++
		if !c.Equal(want[c.Key]) || s.Get(c.Key) != c {
			t.Fatalf("set has %v, want %v", c, want[c.Key])
		}
		rules[c.Table] += len(c.Rules)
	}
	if n != len(want) || s.Len() != n {
		t.Fatalf("set has %d chains and says %d, want %d", n, s.Len(), len(want))
	}
	for _, table := range Tables() {
		if s.Rules(table) != rules[table] {
			t.Fatalf("Rules(%s) = %d, want %d", table, s.Rules(table), rules[table])
		}
	}
}

func assertDiff(t *testing.T, got Change, was, now map[Key]*Chain) {
	t.Helper()
	var want Change
	for k, c := range now {
		if !c.Equal(was[k]) {
			want.Write = append(want.Write, c)
		}
	}
	for k := range was {
		if now[k] == nil {
			want.Delete = append(want.Delete, k)
		}
	}
	want.sort()
	if diff := cmp.Diff([]any{want.Write, want.Delete}, []any{got.Write, got.Delete}); diff != "" {
		t.Fatalf("Diff (-want +got):\n%s", diff)
	}
}

// TestPartsLeaveNoGap checks what the tables hold after each part: filter is
// written around nat, unless rules only come or only go.
func TestPartsLeaveNoGap(t *testing.T) {
	filter := func(rules ...Rule) *Chain { return chain(Filter, "F", rules...) }
	nat := func(r Rule) *Chain { return chain(NAT, "N", r) }
	tests := []struct {
		name      string
		old, next []*Chain
		want      string
	}{
		{"the first endpoint comes", []*Chain{filter("-j A", "-j B"), nat("-j X")}, []*Chain{filter("-j B"), nat("-j Y")},
			"nat N: -j Y\nfilter F: -j B\n"},
		{"the last endpoint goes", []*Chain{filter("-j B"), nat("-j X")}, []*Chain{filter("-j A", "-j B"), nat("-j Y")},
			"filter F: -j A, -j B\nnat N: -j Y\n"},
		{"both", []*Chain{filter("-j A", "-j B", "-j Z"), nat("-j X")}, []*Chain{filter("-j B", "-j C", "-j Z"), nat("-j Y")},
			"filter F: -j A, -j B, -j C, -j Z\nnat N: -j Y\nfilter F: -j B, -j C, -j Z\n"},
		{"a new chain of filter", []*Chain{nat("-j X")}, []*Chain{filter("-j B"), nat("-j Y")},
			"filter F: -j B\nnat N: -j Y\n"},
		{"a chain of filter goes", []*Chain{filter("-j B"), nat("-j X")}, []*Chain{nat("-j Y")},
			"nat N: -j Y\nfilter -F\n"},
		{"filter only", []*Chain{filter("-j A")}, []*Chain{filter("-j B")}, "filter F: -j B\n"},
		{"nat and raw", []*Chain{nat("-j X")}, []*Chain{nat("-j Y"), chain(Raw, "R", "-j R")}, "raw R: -j R\nnat N: -j Y\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			old, next := setOf(tt.old...), setOf(tt.next...)
			change := Diff(old, next)
			var got strings.Builder
			held := []*Set{old}
			for _, p := range change.Parts() {
				for _, c := range p.Write {
					rules := fmt.Sprint(c.Rules)
					fmt.Fprintf(&got, "%s %s: %s\n", c.Table, strings.TrimPrefix(c.Name, Prefix), strings.ReplaceAll(rules[1:len(rules)-1], " -j", ", -j"))
				}
				for _, k := range p.Delete {
					fmt.Fprintf(&got, "%s -%s\n", k.Table, strings.TrimPrefix(k.Name, Prefix))
				}
				held = append(held, held[len(held)-1].Apply(p))
			}
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if rest := Diff(held[len(held)-1], next); !rest.Empty() {
				t.Errorf("the parts leave out\n%s", rest.Text())
			}
			n := 0
			for i, l := range strings.Split(change.Text(), "\n") {
				if rest := Diff(held[n], change.After(old, i+1)); !rest.Empty() {
					t.Errorf("stopped at line %d, after %d parts:\n%s", i+1, n, rest.Text())
				}
				if l == "COMMIT" {
					n++
				}
			}
		})
	}
}

func TestIPSets(t *testing.T) {
	with := func(name string, sets ...string) *Chain {
		c := chain(NAT, name, Rule("-j "+strings.Join(sets, ",")))
		c.IPSets = sets
		return c
	}
	old := setOf(with("A", "a", "b"), with("B", "b", "c"), with("C", "d"))
	next := setOf(with("A", "a", "e"), with("B", "b", "c"))
	change := Diff(old, next)
	if diff := cmp.Diff([][]string{{"a", "e"}, {"b", "d"}}, [][]string{change.Create, change.Destroy}); diff != "" {
		t.Errorf("Diff, to create and to destroy (-want +got):\n%s", diff)
	}
	change = Replace(next, nil, "x", "c")
	if diff := cmp.Diff([][]string{{"a", "b", "c", "e"}, {"x"}}, [][]string{change.Create, change.Destroy}); diff != "" {
		t.Errorf("Replace, to create and to destroy (-want +got):\n%s", diff)
	}
}

func TestCommitted(t *testing.T) {
	text := "*raw\nCOMMIT\n*nat\n:A - [0:0]\n-A A -j X\nCOMMIT\n*filter\nCOMMIT\n"
	for stop, want := range map[int][]Table{
		1: nil, 2: nil, 3: {Raw}, 5: {Raw}, 6: {Raw}, 7: {Raw, NAT}, 8: {Raw, NAT}, 9: {Raw, NAT, Filter},
	} {
		if got := Committed(text, stop); !slices.Equal(got, want) {
			t.Errorf("stopped at line %d: %v are committed, want %v", stop, got, want)
		}
	}
}

func TestHashedNames(t *testing.T) {
	seen := map[string]string{}
	for i := range 10000 {
		text := fmt.Sprintf("ns/s%d:httptcp", i)
		name := HashedName("SVC-", text)
		if len(name) != MaxNameLen || !strings.HasPrefix(name, "SIGNPOST-SVC-") || seen[name] != "" {
			t.Fatalf("%q → %q, which %q has", text, name, seen[name])
		}
		seen[name] = text
	}
}

func TestFields(t *testing.T) {
	for line, want := range map[string][]string{
		`-A X  -j Y`:                      {"-A", "X", "-j", "Y"},
		`-m comment --comment "a b" -j Y`: {"-m", "comment", "--comment", "a b", "-j", "Y"},
		`--comment "a \"b\""`:             {"--comment", `a "b"`},
		`--comment ""`:                    {"--comment", ""},
		``:                                nil,
	} {
		got, err := Fields(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Fields(%q) = %q, %v, want %q", line, got, err, want)
		}
	}
	if _, err := Fields(`--comment "a`); err == nil {
		t.Error("an open quote is no error")
	}
}

func FuzzFields(f *testing.F) {
	f.Add(`-A X -m comment --comment "a \"b\" c" -j Y`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Fields(line)
		if err != nil {
			return
		}
		// Words that are quoted again come out the same.
		var b strings.Builder
		for _, w := range words {
			b.WriteString(` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w) + `"`)
		}
		again, err := Fields(b.String())
		if err != nil || !slices.Equal(words, again) {
			t.Errorf("%q → %q → %q, %v", line, words, again, err)
		}
	})
}
