package claim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	settle = 6 * time.Second
	rounds = 100
)

// TestEachAddressHasOneOwner: from nothing, and evenly spread.
func TestEachAddressHasOneOwner(t *testing.T) {
	for _, nodes := range []int{1, 2, 3, 4, 5, 9} {
		w := newWorld(t, uint64(nodes), nodes, 100)
		w.run(settle)
		got := w.owners(fmt.Sprint(nodes, " nodes"))
		for a, owner := range w.owner {
			if first := Rank(a, w.names())[0]; w.nodes[owner].name != first {
				t.Errorf("%d nodes: %v is with %s, and not with %s: %v", nodes, a, w.nodes[owner].name, first, got)
			}
		}
	}
}

// TestSpread: the shares of the nodes are even within a fifth.
func TestSpread(t *testing.T) {
	const addresses = 1000
	nodes := []string{"node1", "node2", "node3"}
	got := map[string]int{}
	for i := range addresses {
		a := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		got[Rank(a, nodes)[0]]++
	}
	t.Log(got)
	for _, name := range nodes {
		if even := addresses / len(nodes); got[name] < even*8/10 || got[name] > even*12/10 {
			t.Errorf("%s has %d of %d", name, got[name], addresses)
		}
	}
}

// TestRank: without one node the order of the others stays.
func TestRank(t *testing.T) {
	nodes := []string{"a", "b", "c", "d", "e"}
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		all := Rank(a, nodes)
		for _, gone := range nodes {
			without := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == gone })
			want := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == gone })
			if got := Rank(a, without); !slices.Equal(got, want) {
				t.Errorf("without %s: %v, want %v", gone, got, want)
			}
		}
	}
}

// TestFailOver kills nodes, cuts them off and brings them back, many times.
func TestFailOver(t *testing.T) {
	ways := map[string]func(w *world, i int) (back func()){
		"killed": func(w *world, i int) func() {
			w.nodes[i].node = nil
			return func() { w.boot(i) }
		},
		"cut off": func(w *world, i int) func() {
			for j := range w.nodes {
				w.cut[[2]int{i, j}], w.cut[[2]int{j, i}] = true, true
			}
			return func() { clear(w.cut) }
		},
		"deaf": func(w *world, i int) func() {
			for j := range w.nodes {
				w.cut[[2]int{j, i}] = true
			}
			return func() { clear(w.cut) }
		},
		"mute": func(w *world, i int) func() {
			for j := range w.nodes {
				w.cut[[2]int{i, j}] = true
			}
			return func() { clear(w.cut) }
		},
		"told to stop": func(w *world, i int) func() {
			w.broadcast(i, w.nodes[i].node.Farewell(w.clock(i)))
			w.nodes[i].node = nil
			return func() { w.boot(i) }
		},
	}
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		t.Run(way, func(t *testing.T) {
			var gaps []time.Duration
			w := newWorld(t, 3, 3, 10)
			w.run(settle)
			for round := range rounds {
				w.owners("before it begins")
				before, i := maps.Clone(w.owner), round%len(w.nodes)
				w.run(time.Duration(w.Int64N(int64(Period))))
				from := w.now
				back := ways[way](w, i)
				gap := time.Duration(0)
				for w.run(10 * time.Millisecond); ; w.run(10 * time.Millisecond) {
					if len(w.vacant) > 0 || !slices.Equal(owned(w, i), nil) {
						gap = w.now - from
					}
					if w.now-from > settle {
						break
					}
				}
				gaps = append(gaps, gap)
				now := w.owners("while it is away")
				if now[i] > 0 {
					t.Fatalf("%s has %d addresses while it is away", w.nodes[i].name, now[i])
				}
				after := maps.Clone(w.owner)
				for a, was := range before {
					if was != i && after[a] != was {
						t.Fatalf("%v went from %s to %s, neither of which was away", a, w.nodes[was].name, w.nodes[after[a]].name)
					}
				}
				back()
				w.run(settle)
				w.owners("when it is back")
				if diff := cmp.Diff(after, w.owner, addressComparer); diff != "" {
					t.Fatalf("addresses went back without need:\n%s", diff)
				}
				w.share()
			}
			slices.Sort(gaps)
			t.Logf("until all addresses have an owner again: p50 %v, p99 %v, longest %v", gaps[rounds/2], gaps[rounds*99/100], gaps[rounds-1])
			if longest := gaps[len(gaps)-1]; longest > 3*time.Second {
				t.Errorf("once it took %v", longest)
			}
		})
	}
}

var addressComparer = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// owned are the addresses that a node has.
func owned(w *world, i int) []netip.Addr {
	var out []netip.Addr
	for _, a := range w.addresses {
		if n := w.nodes[i].node; n != nil && n.Holds(w.clock(i), a) {
			out = append(out, a)
		}
	}
	return out
}

// share makes all nodes begin anew, so that each has a share again.
func (w *world) share() {
	w.t.Helper()
	for i := range w.nodes {
		w.nodes[i].node = nil
	}
	w.run(time.Second)
	for i := range w.nodes {
		w.boot(i)
	}
	w.run(settle)
}

// TestNeverTwo does everything to everybody at random: nobody ever has what
// another has; and as soon as it ends, somebody has everything.
func TestNeverTwo(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed, 3+int(seed%4), 6)
		w.delay, w.loss = 300*time.Millisecond, 0.1
		for range 300 {
			w.damage()
			w.run(time.Duration(w.Int64N(int64(time.Second))))
		}
		clear(w.cut)
		w.delay, w.loss = 5*time.Millisecond, 0
		for i, b := range w.nodes {
			b.may = w.everything()
			if b.node == nil {
				w.boot(i)
			}
			b.node.SetAddresses(w.clock(i), b.may)
		}
		w.run(2 * settle)
		w.owners(fmt.Sprint("seed ", seed, ", when all is well again"))
	}
}

func (w *world) damage() {
	i, j := w.IntN(len(w.nodes)), w.IntN(len(w.nodes))
	b := w.nodes[i]
	switch w.IntN(7) {
	case 0:
		b.node = nil
	case 1, 2:
		if b.node == nil {
			w.boot(i)
		}
	case 3:
		w.cut[[2]int{i, j}] = !w.cut[[2]int{i, j}]
	case 4:
		clear(w.cut)
	case 5:
		for k := range w.nodes {
			w.cut[[2]int{i, k}], w.cut[[2]int{k, i}] = true, true
		}
	case 6:
		// Nodes do not agree about who may have what.
		b.may = w.everything()
		for _, a := range w.addresses {
			if w.IntN(3) == 0 {
				delete(b.may, a)
			}
		}
		if b.node != nil {
			b.node.SetAddresses(w.clock(i), b.may)
		}
	}
}

// TestSplitVotes: of four, two pairs do not hear each other's first, so that both
// of them get two votes. One of them has to let go.
func TestSplitVotes(t *testing.T) {
	for seed := range uint64(50) {
		w := newWorld(t, seed, 4, 20)
		w.cut[[2]int{0, 1}], w.cut[[2]int{1, 0}] = true, true
		w.run(2 * settle)
		w.owners(fmt.Sprint("seed ", seed))
	}
}

// TestAMinorityHasNothing: one of three that hears nobody has nothing after Seat.
func TestAMinorityHasNothing(t *testing.T) {
	w := newWorld(t, 1, 3, 30)
	w.run(settle)
	for i := range w.nodes {
		w.cut[[2]int{0, i}], w.cut[[2]int{i, 0}] = true, true
	}
	w.run(Seat * 100 / 94) // of the slowest clock
	if has := owned(w, 0); len(has) > 0 {
		t.Errorf("it still has %v", has)
	}
}
