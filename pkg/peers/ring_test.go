package peers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func nodeNames(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("node-%d", i)
	}
	return out
}

// TestRing holds for clusters of all small sizes that who probes whom is the same
// whichever way one asks, that each node is probed by as many as can be, and never
// by itself.
func TestRing(t *testing.T) {
	for n := range 12 {
		names := nodeNames(n)
		r := newRing(names)
		for _, a := range names {
			after, before := r.after(a), r.before(a)
			want := min(watched, n-1)
			if len(after) != want || len(before) != want || slices.Contains(after, a) || slices.Contains(before, a) {
				t.Errorf("%d nodes: %s probes %v and is probed by %v", n, a, after, before)
			}
			for _, b := range after {
				if !slices.Contains(r.before(b), a) {
					t.Errorf("%d nodes: %s probes %s, which is probed by %v", n, a, b, r.before(b))
				}
			}
		}
	}
}

func TestRingIsTheSameForAll(t *testing.T) {
	names := nodeNames(50)
	want := newRing(names)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	if diff := cmp.Diff(want, newRing(append(names, names[0]))); diff != "" {
		t.Errorf("another order of names, and one twice (-want +got):\n%s", diff)
	}
	if got := want.after("stranger"); got != nil {
		t.Errorf("a node that is not on the ring probes %v", got)
	}
}

// TestNeighboursOnTheRingAreNoNeighboursByName: machines that are numbered one
// after the other often die together.
func TestNeighboursOnTheRingAreNoNeighboursByName(t *testing.T) {
	r := newRing(nodeNames(1000))
	near := 0
	for i := range 1000 {
		for _, other := range r.after(fmt.Sprintf("node-%d", i)) {
			var j int
			if _, err := fmt.Sscanf(other, "node-%d", &j); err != nil {
				t.Fatal(err)
			}
			if max(i-j, j-i) <= 10 {
				near++
			}
		}
	}
	if share := float64(near) / 3000; share > 0.05 { // 2 % would be chance
		t.Errorf("%.1f %% of the probes go to one of the 20 nodes next by name", 100*share)
	}
}
