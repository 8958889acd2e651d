package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/test/bench/usage"
	"github.com/signpost-dev/signpost/test/bench/world"
	"github.com/signpost-dev/signpost/test/chapter/trial"
)

// drainLimit is how long a contender may take to publish what it has not when the
// last change is made.
const drainLimit = 5 * time.Minute

// result is what came of one contender in one cluster, at one rate or at its start.
type result struct {
	contender string
	shape     world.Shape
	rate      float64
	// took is how long each change took from the answer to its write to its
	// being seen, or the start as a whole.
	latencies []time.Duration
	took      time.Duration
	writes    int
	cost      usage.Usage
}

// changeAt changes the readiness of pods, each once, at a steady rate.
func (w *cluster) changeAt(ctx context.Context, rate float64, length time.Duration, o *watcher, pid int) (result, error) {
	r := result{shape: w.Shape, rate: rate}
	n := min(int(rate*length.Seconds()), len(w.Pods))
	time.Sleep(time.Second) // until what was before has settled
	o.takeWrites()
	before, err := usage.Of(pid)
	if err != nil {
		return r, err
	}
	changed := w.Order()[:n]
	written, err := w.change(ctx, changed, rate)
	if err != nil {
		return r, err
	}
	err = o.await(ctx, drainLimit, func() (bool, string) {
		left := 0
		for _, p := range changed {
			if o.ready[p.IP] != p.Ready {
				left++
			}
		}
		return left == 0, fmt.Sprintf("%d of %d changes are not published", left, n)
	})
	if err != nil {
		return r, err
	}
	time.Sleep(time.Second) // Endpoints may come after their slices
	if err := r.cost.Since(before, pid); err != nil {
		return r, err
	}
	r.writes = o.takeWrites()
	if n := o.takeResumed(); n > 0 {
		fmt.Fprintf(os.Stderr, "the server has ended the benchmark's own watch %d times: some changes were seen late\n", n)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range changed {
		// A watch may tell of a write before its answer has come.
		r.latencies = append(r.latencies, max(0, o.seen[p.IP].Sub(written[p])))
	}
	return r, nil
}

// change makes the changes and returns when each was answered.
func (w *cluster) change(ctx context.Context, pods []*world.Pod, rate float64) (map[*world.Pod]time.Time, error) {
	var mu sync.Mutex
	written := make(map[*world.Pod]time.Time, len(pods))
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i, p := range pods {
		time.Sleep(time.Until(began.Add(time.Duration(float64(i) / rate * float64(time.Second)))))
		p.Ready = !p.Ready
		group.Go(func() error {
			err := w.WriteStatus(ctx, p)
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			written[p] = now
			return err
		})
	}
	return written, group.Wait()
}

func head() {
	fmt.Println("| Services × pods | changes/s | contender | n | p50 | p99 | max | writes per 1,000 changes | CPU s per 1,000 changes | memory MiB (peak) |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
}

func (r *result) print() {
	n := len(r.latencies)
	per := 1000 / float64(n)
	fmt.Printf("| %v | %v | %s | %d | %v | %v | %v | %.0f | %.2f | %s |\n", r.shape, r.rate, r.contender, n,
		short(trial.Percentile(r.latencies, 50)), short(trial.Percentile(r.latencies, 99)), short(slices.Max(r.latencies)),
		float64(r.writes)*per, r.cost.CPU.Seconds()*per, r.cost.Memory())
}

// printStart prints the line of a start: it is one change of all.
func (r *result) printStart() {
	fmt.Printf("| %v | start | %s | 1 | %v | | | %d in all | %.2f in all | %s |\n", r.shape, r.contender,
		short(r.took), r.writes, r.cost.CPU.Seconds(), r.cost.Memory())
}

func short(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
