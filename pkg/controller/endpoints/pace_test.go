package endpoints

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

var pacedKey = key{Namespace: "ns", Name: "svc"}

func TestPace(t *testing.T) {
	now := time.Now()
	const ms = time.Millisecond
	loaded := func(latency time.Duration, inFlight int) func(*pace) {
		return func(p *pace) {
			p.started()
			p.ended(latency)
			for range inFlight {
				p.started()
			}
		}
	}
	for _, tt := range []struct {
		name  string
		floor time.Duration
		load  func(*pace)
		want  time.Duration
	}{
		{"idle", 0, func(*pace) {}, 0},
		{"idle after a slow write", 0, loaded(time.Second, 0), 0},
		{"one write is no load", 0, loaded(100*ms, 1), 0},
		{"a quick server", 0, loaded(2*ms, 8), 14 * ms},
		{"a slow server", 0, loaded(100*ms, 8), 700 * ms},
		{"bounded", 0, loaded(time.Second, 64), time.Second},
		{"the floor", 50 * ms, func(*pace) {}, 50 * ms},
		{"load above the floor", 50 * ms, loaded(100*ms, 2), 100 * ms},
		{"a floor beyond what load does", time.Minute, loaded(time.Second, 64), time.Minute},
		{"just written", 0, func(p *pace) { p.begin(pacedKey, now.Add(-30*ms)); p.end(pacedKey, now.Add(-10*ms)) }, 10 * ms},
		{"written a while ago", 0, func(p *pace) { p.begin(pacedKey, now.Add(-50*ms)); p.end(pacedKey, now.Add(-30*ms)) }, 0},
		{"being written, as long as the last time", 0, func(p *pace) {
			p.begin(pacedKey, now.Add(-time.Second))
			p.end(pacedKey, now.Add(-980*ms))
			p.begin(pacedKey, now.Add(-5*ms))
		}, 35 * ms},
		{"another Service was written", 0, func(p *pace) { p.begin(named("other"), now); p.end(named("other"), now.Add(ms)) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPace(tt.floor)
			tt.load(p)
			if got := p.wait(pacedKey, now); got != tt.want {
				t.Errorf("waits %v, want %v", got, tt.want)
			}
			p.prune(now.Add(time.Hour))
			for k, s := range p.services {
				if !s.writing {
					t.Errorf("%v is remembered for ever", k)
				}
			}
		})
	}
}

// TestNeverMoreWritesThanChanges: at whatever rate pods change, and however long
// the server takes, there are at most as many writes as changes, an addition is
// published within longestBatch and three writes, a removal within three writes.
func TestNeverMoreWritesThanChanges(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inBubble(t, func(o *Options) { o.Endpoints = false }, func(b *bench) {
				rng := rand.New(rand.NewPCG(seed, 1))
				slow := time.Duration(rng.IntN(200)) * time.Millisecond
				b.setDelay(slow)
				b.start(20)
				time.Sleep(10 * time.Second)
				before := b.total()
				ready := map[string]bool{}
				for i := range 20 {
					ready[fmt.Sprint("10.0.0.", i+1)] = true
				}
				const rounds = 150
				changes, gap := 0, 1+rng.IntN(100)
				for round := range rounds {
					i := rng.IntN(20)
					ip := fmt.Sprint("10.0.0.", i+1)
					ready[ip] = !ready[ip]
					changes++
					b.tell(benchPod(i, round+2, ready[ip]), false)
					time.Sleep(time.Duration(rng.IntN(gap)) * time.Millisecond)
					if round%50 == 49 {
						wait := 3 * (writeTime + slow)
						if ready[ip] {
							wait += longestBatch
						}
						time.Sleep(wait)
						if got := b.onServer(); got[ip] != ready[ip] {
							b.Errorf("%s: published as %v after %v", ip, got[ip], wait)
						}
					}
				}
				time.Sleep(10 * time.Second)
				if got := b.onServer(); !maps.Equal(got, ready) {
					b.Errorf("the server has\n%v, want\n%v", got, ready)
				}
				writes := b.total() - before
				if writes > changes {
					b.Errorf("%d writes for %d changes", writes, changes)
				}
				b.Logf("%d changes up to %d ms apart, a write takes %v: %d writes", changes, gap, writeTime+slow, writes)
			})
		})
	}
}

// TestBatchesEndWithTheQueue: what waits when a term ends is not heard of again.
func TestBatchesEndWithTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTestQueue(t, time.Hour)
		q.AddAddition(pacedKey)
		q.AddOnceMore(pacedKey, time.Hour)
		q.ShutDown()
		q.AddAddition(named("late"))
		q.AddOnceMore(named("late"), time.Hour)
		time.Sleep(2 * time.Hour)
		if n := q.Len(); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

// TestOnceMore: each due comes, whatever else makes the Service be looked at.
func TestOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTestQueue(t, 0)
		start := time.Now()
		for _, d := range []time.Duration{2 * time.Second, 2050 * time.Millisecond, 3 * time.Second, 40 * time.Second} {
			q.AddOnceMore(pacedKey, d)
		}
		q.AddRateLimited(pacedKey) // fails, and is tried at once
		for _, want := range []time.Duration{0, 2 * time.Second, 3 * time.Second, 40 * time.Second} {
			k, _ := q.Get()
			if got := time.Since(start); got < want || got > want+2*dueStep {
				t.Errorf("taken after %v, want %v", got, want)
			}
			q.Done(k)
		}
		time.Sleep(time.Hour)
		if n := q.Len(); n != 0 || len(q.dues) != 0 {
			t.Errorf("%d wait, %d dues", n, len(q.dues))
		}
		q.ShutDown()
	})
}
