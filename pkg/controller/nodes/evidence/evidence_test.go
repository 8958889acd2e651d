package evidence

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scene is one suspect, seen at times in seconds.
type scene struct {
	mode  Mode
	nodes int
	// steps are given in order; what is said of the last counts.
	steps []step
}

type step struct {
	at      int
	silence int // of the suspect; 0: it is none
	peers   []Opinion
	// lease is when it was last renewed, -1 if it cannot be read.
	lease int
	stale bool
	// others is how many other nodes are silent as well.
	others int
}

func silent(seconds int) Opinion {
	return Opinion{State: Silent, Silence: time.Duration(seconds) * time.Second}
}

var (
	alive   = Opinion{State: Alive}
	unknown = Opinion{}
	epoch   = time.Unix(100_000, 0)
)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

// play returns the last Outcome.
func (sc scene) play() Outcome {
	var out Outcome
	for _, s := range sc.steps {
		in := Input{Mode: sc.mode, Now: at(s.at), Nodes: sc.nodes}
		if s.silence > 0 {
			suspect := Suspect{Node: "x", Silence: time.Duration(s.silence) * time.Second, Peers: s.peers, Fresh: !s.stale}
			if s.lease >= 0 {
				suspect.Lease = Lease{Known: true, Version: fmt.Sprint(s.lease), Renewed: at(s.lease), Duration: usualDuration}
			}
			in.Suspects = append(in.Suspects, suspect)
		}
		for i := range s.others {
			in.Suspects = append(in.Suspects, Suspect{Node: fmt.Sprint("other-", i), Silence: 2 * time.Second})
		}
		out = Weigh(in, out.Memory)
	}
	return out
}

// TestWeigh is the table of decisions. The node x falls silent at second 100; its
// Lease was renewed at 95 for the last time, if nothing else is said.
func TestWeigh(t *testing.T) {
	agreed := []Opinion{silent(3), silent(4), unknown}
	for _, tt := range []struct {
		name string
		scene
		dead, kept string
	}{
		{"conservative: the Lease is young", scene{Conservative, 9, []step{{103, 3, agreed, 95, false, 0}}},
			"", "its Lease is 8 s old, not yet 20 s"},
		{"conservative: the Lease is old", scene{Conservative, 9, []step{{103, 3, agreed, 95, false, 0}, {116, 16, []Opinion{silent(16)}, 95, false, 0}}},
			"silent for 16 s, Lease 21 s old", ""},
		{"conservative: nobody else says so", scene{Conservative, 9, []step{{130, 30, nil, 95, false, 0}}}, "", "no other node says so"},
		{"conservative: those who were asked never heard it", scene{Conservative, 9, []step{{130, 30, []Opinion{unknown, unknown}, 95, false, 0}}}, "", "no other node says so"},
		{"conservative: of two, there is nobody else", scene{Conservative, 2, []step{{116, 16, nil, 95, false, 0}}}, "silent for 16 s, Lease 21 s old", ""},
		{"fast", scene{Fast, 9, []step{{101, 1, nil, 95, false, 0}, {103, 3, agreed, 95, false, 0}}}, "silent for 3 s, Lease 8 s old", ""},
		{"fast: not silent for long", scene{Fast, 9, []step{{102, 2, agreed, 95, false, 0}}}, "", ""},
		{"fast: another has heard it since", scene{Fast, 9, []step{{103, 3, []Opinion{silent(3), silent(2)}, 95, false, 0}}}, "", "another node has heard it a moment ago"},
		{"fast: another hears it", scene{Fast, 9, []step{{130, 30, []Opinion{silent(30), alive}, 95, false, 0}}}, "", "another node hears it"},
		{"fast: nobody else to say so", scene{Fast, 9, []step{{103, 3, nil, 95, false, 0}}}, "", "its Lease is 8 s old, not yet 11 s"},
		{"fast: of two", scene{Fast, 2, []step{{107, 7, nil, 95, false, 0}}}, "silent for 7 s, Lease 12 s old", ""},
		{"fast: renewed before the first look", scene{Fast, 9, []step{{103, 3, agreed, 102, false, 0}}}, "", "its Lease was renewed 1 s ago, after it fell silent"},
		{"fast: renewed after the first look, by a clock that is behind",
			scene{Fast, 9, []step{{101, 1, nil, 35, false, 0}, {103, 3, agreed, 45, false, 0}}}, "", "its Lease was renewed 0 s ago, after it fell silent"},
		{"fast: renewed after the first look", scene{Fast, 9, []step{{101, 1, nil, 91, false, 0}, {103, 3, agreed, 101, false, 0}, {105, 5, agreed, 101, false, 0}}}, "", "its Lease was renewed 2 s ago, after it fell silent"},
		{"fast: renewed long ago, and never since", scene{Fast, 9, []step{{101, 1, nil, 91, false, 0}, {103, 3, agreed, 101, false, 0}, {144, 44, []Opinion{silent(44)}, 101, false, 0}}},
			"silent for 44 s, Lease 41 s old", ""},
		{"fast: a clock that is ahead delays", scene{Fast, 9, []step{{101, 1, nil, 125, false, 0}, {111, 11, []Opinion{silent(11)}, 125, false, 0}}}, "", "its Lease was renewed 10 s ago, after it fell silent"},
		{"fast: and does not prevent", scene{Fast, 9, []step{{101, 1, nil, 125, false, 0}, {113, 13, []Opinion{silent(13)}, 125, false, 0}}}, "silent for 13 s, Lease 12 s old", ""},
		{"no Lease", scene{Fast, 9, []step{{130, 30, agreed, -1, false, 0}}}, "", "its Lease cannot be read"},
		{"what was seen earlier is not enough", scene{Fast, 9, []step{{130, 30, agreed, 95, true, 0}}}, "", "not looked at yet"},

		{"a third is silent", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 2}}}, "silent for 3 s, Lease 8 s old", ""},
		{"more than a third", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 3}}}, "", "4 of 9 nodes are silent at once"},
		{"one of two", scene{Fast, 2, []step{{130, 30, nil, 95, false, 0}}}, "silent for 30 s, Lease 35 s old", ""},
		{"two of three", scene{Fast, 3, []step{{130, 30, agreed, 95, false, 1}}}, "", "2 of 3 nodes are silent at once"},
		{"then more than a third: back", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {104, 4, agreed, 95, false, 3}}}, "", "4 of 9 nodes are silent at once"},
		{"one dead for long is not among them", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {500, 400, []Opinion{silent(400)}, 95, false, 2}}}, "silent for 3 s, Lease 8 s old", ""},
		{"and stays dead when they are too many", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {500, 400, []Opinion{silent(400)}, 95, false, 6}}}, "silent for 3 s, Lease 8 s old", ""},

		{"dead stays dead, and says the same", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {110, 10, []Opinion{silent(10)}, 95, false, 0}}}, "silent for 3 s, Lease 8 s old", ""},
		{"also when it is not looked at", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {110, 10, nil, 95, true, 0}}}, "silent for 3 s, Lease 8 s old", ""},
		{"also when who said so is gone", scene{Conservative, 9, []step{{116, 16, []Opinion{silent(16)}, 95, false, 0}, {118, 18, nil, -1, false, 0}}}, "silent for 16 s, Lease 21 s old", ""},
		{"back: a sign of life here", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {104, 0, nil, 0, false, 0}}}, "", ""},
		{"back: a sign of life elsewhere", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {104, 4, []Opinion{silent(4), alive}, 95, false, 0}}}, "", "another node hears it"},
		{"back: its Lease is renewed", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {106, 6, []Opinion{silent(6)}, 105, false, 0}}}, "", "its Lease was renewed 0 s ago, after it fell silent"},
		{"dead again needs evidence again", scene{Fast, 9, []step{{103, 3, agreed, 95, false, 0}, {104, 0, nil, 0, false, 0}, {105, 1, nil, 95, false, 0}}}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := tt.play()
			if out.Dead["x"] != tt.dead || out.Kept["x"] != tt.kept {
				t.Errorf("dead %q, kept %q; want %q, %q", out.Dead["x"], out.Kept["x"], tt.dead, tt.kept)
			}
		})
	}
}

// TestNothingIsKeptOfTheLiving: a memory that grows with the cluster's history
// would be a leak.
func TestNothingIsKeptOfTheLiving(t *testing.T) {
	out := scene{Fast, 9, []step{{103, 3, []Opinion{silent(3)}, 95, false, 2}, {104, 0, nil, 0, false, 0}}}.play()
	if diff := cmp.Diff(Memory{}, out.Memory); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWeighNeverEmptiesACluster plays random evidence and holds what must never
// be: more than a third of the nodes newly dead, or a node dead that a peer hears;
// and that every suspect which is silent for long is either dead or kept, with a reason.
func TestWeighNeverEmptiesACluster(t *testing.T) {
	const runs = 3000
	rng := rand.New(rand.NewPCG(3, 3))
	died := 0
	for range runs {
		nodes := 1 + rng.IntN(12)
		var memory Memory
		now := epoch
		for range 12 {
			now = now.Add(time.Duration(rng.IntN(20_000)) * time.Millisecond)
			in := Input{Mode: []Mode{Conservative, Fast}[rng.IntN(2)], Now: now, Nodes: nodes}
			for i := range nodes - 1 {
				if rng.IntN(3) == 0 {
					in.Suspects = append(in.Suspects, randomSuspect(rng, fmt.Sprint(i), now))
				}
			}
			out := Weigh(in, memory)
			memory = out.Memory
			died += len(out.Dead)
			check(t, in, out)
		}
	}
	if died < runs/10 {
		t.Errorf("only %d deaths in %d runs: this tries nothing", died, runs)
	}
}

func randomSuspect(rng *rand.Rand, name string, now time.Time) Suspect {
	s := Suspect{Node: name, Silence: time.Duration(rng.IntN(60)) * time.Second, Fresh: rng.IntN(5) > 0}
	for range rng.IntN(4) {
		s.Peers = append(s.Peers, Opinion{State: State(rng.IntN(10) % 3), Silence: time.Duration(rng.IntN(60)) * time.Second})
	}
	s.Peers = slices.DeleteFunc(s.Peers, func(o Opinion) bool { return o.State == Alive && rng.IntN(3) > 0 })
	if rng.IntN(5) > 0 {
		s.Lease = Lease{Known: true, Version: fmt.Sprint(rng.IntN(2)), Renewed: now.Add(-time.Duration(rng.IntN(60)) * time.Second)}
	}
	return s
}

func check(t *testing.T, in Input, out Outcome) {
	t.Helper()
	recent := 0
	for _, e := range out.Memory {
		if !e.Dead.IsZero() && !e.deadForLong(in.Now) {
			recent++
		}
	}
	if recent > 1 && 3*recent > in.Nodes {
		t.Fatalf("%d of %d nodes are dead at once: %+v", recent, in.Nodes, in)
	}
	for _, s := range in.Suspects {
		why, dead := out.Dead[s.Node]
		reason, kept := out.Kept[s.Node]
		if dead == kept && s.Silence >= longSilence || dead && why == "" || kept && reason == "" {
			t.Fatalf("node %s: dead %t %q, kept %t %q: %+v", s.Node, dead, why, kept, reason, s)
		}
		if dead && slices.ContainsFunc(s.Peers, func(o Opinion) bool { return o.State == Alive }) {
			t.Fatalf("node %s is dead, and a peer hears it: %+v", s.Node, s)
		}
	}
	for name := range maps.Keys(out.Dead) {
		if !slices.ContainsFunc(in.Suspects, func(s Suspect) bool { return s.Node == name }) {
			t.Fatalf("node %s is dead and not silent", name)
		}
	}
}
