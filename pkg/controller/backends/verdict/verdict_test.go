package verdict

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStreak: + is a success, - a failure; below it what is known after each, three
// failures or two successes in a row being needed.
func TestStreak(t *testing.T) {
	for name, test := range map[string]struct{ checks, want string }{
		"good from the beginning":     {"+++", "UUU"},
		"bad from the beginning":      {"----", "??DD"},
		"good after a bad beginning":  {"--+-", "??UU"},
		"one failure is none":         {"+-+-+", "UUUUU"},
		"two are none":                {"+--+--+", "UUUUUUU"},
		"three are":                   {"+---", "UUUD"},
		"one success is none":         {"---+-+-", "??DDDDD"},
		"two are (back)":              {"---++", "??DDU"},
		"out and in and out":          {"+---++---", "UUUDDUUUD"},
		"flapping stays as it is, up": {"+-+--+-+--+", "UUUUUUUUUUU"},
	} {
		t.Run(name, func(t *testing.T) {
			var s Streak
			var got strings.Builder
			for _, c := range test.checks {
				f := Finding{State: Up}
				if c == '-' {
					f = Finding{Down, HTTPStatus, 503}
				}
				s.Note(f, 3, 2)
				got.WriteByte("?UD"[s.Finding().State])
			}
			if got.String() != test.want {
				t.Errorf("%s is %s, want %s", test.checks, &got, test.want)
			}
		})
	}
}

func TestStreakHasTheLatestCause(t *testing.T) {
	var s Streak
	for _, f := range []Finding{{Down, Refused, 0}, {Down, TimedOut, 0}, {Down, HTTPStatus, 500}} {
		s.Note(f, 2, 2)
	}
	if got := s.Finding(); got != (Finding{Down, HTTPStatus, 500}) {
		t.Errorf("%+v", got)
	}
	for range 2 {
		s.Note(Finding{State: Up}, 2, 2)
	}
	if got := s.Finding(); got != (Finding{State: Up}) {
		t.Errorf("%+v", got)
	}
}

// backends reads one Backend per word: what three nodes find, then + if it is
// published, and u or d for what a majority said last.
func backends(text string) []Backend {
	var out []Backend
	for word := range strings.FieldsSeq(text) {
		var b Backend
		for _, c := range word {
			switch c {
			case 'U':
				b.Findings = append(b.Findings, Finding{State: Up})
			case 'D':
				b.Findings = append(b.Findings, Finding{Down, Refused, 0})
			case '?':
				b.Findings = append(b.Findings, Finding{})
			case '+':
				b.Published = true
			case 'u':
				b.Last = Up
			case 'd':
				b.Last = Down
			}
		}
		out = append(out, b)
	}
	return out
}

func TestDecide(t *testing.T) {
	for name, test := range map[string]struct {
		backends string
		quorum   int
		blind    bool
		want     string // + works, - does not; ! at the end: all of them because none would
	}{
		"all up":                         {"UUU+ UUU+", 2, false, "++"},
		"one down":                       {"UUU+u DDD+u", 2, false, "+-"},
		"two of three say down":          {"UUU+u DDU+u", 2, false, "+-"},
		"one of three says down":         {"UUU+u DUU+u", 2, false, "++"},
		"one says down, two nothing":     {"UUU+u D??+u", 2, false, "++"},
		"one says down, two are gone":    {"UUU+u D+u", 2, false, "++"},
		"one says up again":              {"UUU+u UDDd", 2, false, "+-"},
		"two say up again":               {"UUU+u UUDd", 2, false, "++"},
		"a checker is lost, while up":    {"UUU+u UU+u", 2, false, "++"},
		"a checker is lost, while down":  {"UUU+u DDd", 2, false, "+-"},
		"two are lost, while down":       {"UUU+u Dd", 2, false, "+-"},
		"all are lost":                   {"+u d", 2, false, "+-"},
		"all are lost for long":          {"+u d", 2, true, "++!"},
		"two nodes that do not agree":    {"UU+u UD+u", 2, false, "++"},
		"one node is a majority":         {"U+u D+u", 1, false, "+-"},
		"all down stay":                  {"DDD+u DDD+u", 2, false, "++!"},
		"all down, and then one is back": {"DDD+d UUU+d", 2, false, "-+"},
		"nothing known yet":              {"???  ???", 2, false, "++!"},
		"one is known, others were in":   {"UU? ?+ D?+", 2, false, "+++"},
		"a new one waits":                {"UUU+u ???", 2, false, "+-"},
		"a new one, all others down":     {"DDD+u ???", 2, false, "++!"},
		"after a new leader":             {"???+ ???", 2, false, "+-"},
		"one only, down":                 {"DDD+u", 2, false, "+!"},
		"none":                           {"", 2, false, ""},
		"none, blind":                    {"", 2, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			opinions, open := Decide(backends(test.backends), test.quorum, test.blind)
			got := ""
			for _, o := range opinions {
				if o.Works {
					got += "+"
				} else {
					got += "-"
				}
				if o.State != Down && o.Finding != (Finding{}) {
					t.Errorf("%v, but %+v", o.State, o.Finding)
				}
			}
			if open {
				got += "!"
			}
			if got != test.want {
				t.Errorf("%s: %s, want %s", test.backends, got, test.want)
			}
		})
	}
}

func TestQuorum(t *testing.T) {
	got := map[int]int{}
	for n := range 6 {
		got[n] = Quorum(n)
	}
	if diff := cmp.Diff(map[int]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 2, 5: 2}, got); diff != "" {
		t.Error(diff)
	}
}

// TestNeverNothing: whatever is found, somebody gets packets, and nobody leaves
// without a majority against it.
func TestNeverNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20000 {
		all := make([]Backend, 1+rng.IntN(4))
		for i := range all {
			all[i] = Backend{Last: State(rng.IntN(3)), Published: rng.IntN(2) == 0}
			for range rng.IntN(4) {
				all[i].Findings = append(all[i].Findings, Finding{State: State(rng.IntN(3))})
			}
		}
		quorum := 1 + rng.IntN(2)
		opinions, open := Decide(all, quorum, rng.IntN(10) == 0)
		works := 0
		for i, o := range opinions {
			down := 0
			for _, f := range all[i].Findings {
				if f.State == Down {
					down++
				}
			}
			if o.Works {
				works++
			} else if all[i].Published && all[i].Last == Up && down < quorum {
				t.Fatalf("%+v leaves: %+v", all[i], o)
			}
		}
		if works == 0 || open && works < len(all) {
			t.Fatalf("%d of %d work, open %v: %+v", works, len(all), open, all)
		}
	}
}

// TestTexts: each cause has a text of its own.
func TestTexts(t *testing.T) {
	seen := map[string]bool{}
	for c := NoCause; c <= Handshake; c++ {
		text := Finding{Down, c, 5}.Because()
		if seen[text] {
			t.Errorf("%d: %s again", c, text)
		}
		seen[text] = true
	}
	if got := (Finding{Down, 200, 0}).Because(); got != "check failed" {
		t.Errorf("of a newer version: %q", got)
	}
}
