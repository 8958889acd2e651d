package term

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func names(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint("node-", i))
	}
	return out
}

// TestPlacesAreALine: the places of all but the holder are 0, 1, 2 …, others at
// each change of leader, and everybody is first equally often.
func TestPlacesAreALine(t *testing.T) {
	const n, changes = 40, 1000
	all := names(n)
	first := map[string]int{}
	for transitions := range changes {
		holder := all[transitions%n]
		seen := make([]bool, n-1)
		for _, name := range all {
			p := placeOf(name, holder, transitions, all)
			if name == holder {
				continue
			}
			if !p.known || p.rank >= n-1 || seen[p.rank] {
				t.Fatalf("%d transitions: the place of %s is %+v, taken or none", transitions, name, p)
			}
			seen[p.rank] = true
			if p.rank == 0 {
				first[name]++
			}
		}
	}
	for _, name := range all {
		if got, want := float64(first[name]), float64(changes)/n; math.Abs(got-want) > 5*math.Sqrt(want) {
			t.Errorf("%s was first %v times of %d, want some %v", name, got, changes, want)
		}
	}
	if p := placeOf("stranger", "node-1", 3, all); p.known || p.share < 0 || p.share >= 1 {
		t.Errorf("the place of a stranger is %+v", p)
	}
}

func TestDelays(t *testing.T) {
	for _, tt := range []struct {
		rank int
		want time.Duration
	}{
		{0, 0},
		{1, spread / 3},
		{2, 2 * spread / 3},
		{3, step},
		{8, step + 5*spread/6},
		{9, 2 * step},
		{20, 2*step + 11*spread/12},
		{21, 3 * step},
	} {
		if got := (place{known: true, rank: tt.rank}).delay(3); got != tt.want {
			t.Errorf("the one with %d before it waits %v, want %v", tt.rank, got, tt.want)
		}
	}
	last := time.Duration(-1)
	for rank := range 5000 {
		d := place{known: true, rank: rank}.delay(3)
		if d < last {
			t.Errorf("the one with %d before it waits %v, the one before it %v", rank, d, last)
		}
		last = d
	}
	if last > 3*time.Second {
		t.Errorf("the last of 5000 waits %v", last)
	}
	for share := range 10 {
		if d := (place{share: float64(share) / 10}).delay(3); d < 0 || d > 2*spread {
			t.Errorf("who does not know the others waits %v", d)
		}
	}
}

// TestFollowersAskNothing: twenty candidates; in steady state only the leader
// makes requests, and when it stops, a few try to take over and one does, at once.
func TestFollowersAskNothing(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("the others are known %v", known), func(t *testing.T) {
			inBubble(t, func(b *bench) {
				const n = 20
				ctx, cancel := context.WithCancel(b.ctx)
				all := names(n)
				var candidates []*Candidate
				var clients []*fake.Clientset
				stop := map[*Candidate]context.CancelFunc{}
				nexts := make([]atomic.Bool, n)
				inLine := func() (out int) {
					for i := range nexts {
						if nexts[i].Load() {
							out++
						}
					}
					return out
				}
				for i, name := range all {
					c := b.candidate(name, func(o *Options) {
						if known {
							o.Peers = func() []string { return all }
						}
						o.Standby = func(is bool) {
							if nexts[i].Swap(is) == is {
								b.Errorf("%s is told twice that it is the next: %v", name, is)
							}
						}
						clients = append(clients, o.Client.(*fake.Clientset))
					})
					cctx, stopOne := context.WithCancel(ctx)
					stop[c] = stopOne
					candidates = append(candidates, c)
					b.run(cctx, c, func(ctx context.Context) error {
						nexts[i].Store(false) // the work takes over what the standby has
						return untilDone(0)(ctx)
					})
				}
				leader := func() *Candidate {
					for _, c := range candidates {
						if c.Leading() {
							return c
						}
					}
					return nil
				}
				requests := func() (total int, who map[string]int) {
					who = map[string]int{}
					for i, c := range clients {
						for _, a := range c.Actions() {
							if a.GetVerb() != "watch" && a.GetVerb() != "list" {
								total++
								who[all[i]]++
							}
						}
						c.ClearActions()
					}
					return total, who
				}
				time.Sleep(time.Minute)
				if n := inLine(); known && n != 1 || !known && n != 0 {
					b.Errorf("%d are next in line", n)
				}
				requests()
				time.Sleep(10 * time.Minute)
				first := leader()
				if total, who := requests(); len(who) != 1 || who[first.options.Identity] != total {
					b.Errorf("requests while nothing happens: %v", who)
				}
				stop[first]()
				began := time.Now()
				for leader() == nil && time.Since(began) < time.Minute {
					time.Sleep(time.Millisecond)
				}
				took := time.Since(began)
				synctest.Wait()
				time.Sleep(time.Second)
				total, who := requests()
				b.Logf("taken over after %v; %d requests of %d", took, total, len(who))
				if took > 100*time.Millisecond || len(who) > 1+3 {
					b.Errorf("taken over after %v, with requests of %v", took, who)
				}
				if n := inLine(); known && n != 1 || !known && n != 0 {
					b.Errorf("%d are next in line under the second leader", n)
				}
				cancel()
				b.wg.Wait()
				if n := inLine(); n != 0 {
					b.Errorf("%d still are next in line when all have ended", n)
				}
			})
		})
	}
}

// TestTheFirstInLineAreDead: whoever comes next takes over soon after the Lease
// has expired, of which it needs no fresh look.
func TestTheFirstInLineAreDead(t *testing.T) {
	inBubble(t, func(b *bench) {
		ctx, cancel := context.WithCancel(b.ctx)
		all := append(names(20), "a", "b") // only a and b exist
		peers := func(o *Options) { o.Peers = func() []string { return all } }
		a, c := b.candidate("a", peers), b.candidate("b", peers)
		b.run(ctx, a, untilDone(0))
		time.Sleep(10 * time.Second)
		b.run(ctx, c, untilDone(0))
		time.Sleep(time.Minute)
		if !a.Leading() {
			b.Fatal("a does not lead")
		}
		b.setDown(func(identity string, _ clienttesting.Action) bool { return identity == "a" })
		began := time.Now()
		for !c.Leading() && time.Since(began) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		took := time.Since(began)
		if took < 12*time.Second || took > 16*time.Second {
			b.Errorf("taken over after %v", took)
		}
		cancel()
	})
}
