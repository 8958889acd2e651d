package conntrack

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/conntrack/stale"
)

// worker cuts the stale flows of one family.
//
// What it is told goes into a queue that its goroutine empties. The first change
// after a quiet time is acted upon at once; those that come while the table is read wait
// for the next reading. Between readings there is a pause as long as the last
// one took, at most longestPause: a compromise between the CPU time of many
// changes and the 100 ms that a datagram may go astray for.
type worker struct {
	table   Table
	book    *stale.Book
	log     *slog.Logger
	metrics *familyMetrics
	failed  backoff

	news  chan struct{} // has room for one signal: the queue is not empty
	mu    sync.Mutex
	queue []lesson
}

// lesson is what a worker is told.
type lesson struct {
	snap     *model.Snapshot
	services model.ServiceMap
	at       time.Time
}

// longestPause is the longest pause between two readings of the table.
const longestPause = 20 * time.Millisecond

func (w *worker) programmed(snap *model.Snapshot, services *model.ServiceMap) {
	w.mu.Lock()
	w.queue = append(w.queue, lesson{snap, *services, time.Now()})
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func (w *worker) run(ctx context.Context) error {
	defer w.table.Close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		start := time.Now()
		w.learn()
		w.look(ctx)
		pause(ctx, min(time.Since(start), longestPause))
		timer.Stop()
		if next := w.next(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.news:
		case <-timer.C:
		}
	}
}

// learn empties the queue. Each lesson counts by itself: what went and came back
// in between may have left flows that began while it was away.
func (w *worker) learn() {
	w.mu.Lock()
	queue := w.queue
	w.queue = nil
	w.mu.Unlock()
	for i := range queue {
		w.book.Learn(queue[i].snap, &queue[i].services, queue[i].at)
	}
}

// look reads the table for what is due.
func (w *worker) look(ctx context.Context) {
	if time.Now().Before(w.failed.until) {
		return
	}
	for _, kind := range stale.Kinds() {
		start := time.Now()
		look := w.book.Look(kind, start)
		if look == nil {
			continue
		}
		n, err := w.cut(ctx, look)
		if err != nil {
			if ctx.Err() == nil {
				w.fail(err)
			}
			return
		}
		w.book.Done(look)
		w.failed = backoff{}
		w.metrics.duration.Observe(time.Since(start).Seconds())
		if n > 0 {
			w.log.Debug("cut stale flows", "flows", n, "took", time.Since(start))
		}
	}
}

func (w *worker) cut(ctx context.Context, look *stale.Look) (int, error) {
	var local map[netip.Addr]struct{}
	if look.NodePorts() {
		var err error
		if local, err = w.table.Addresses(); err != nil {
			return 0, err
		}
	}
	isLocal := func(a netip.Addr) bool { _, ok := local[a]; return ok }
	n, err := w.table.Cut(ctx, look.Filter(), func(f stale.Flow) bool { return look.Stale(f, isLocal) })
	w.metrics.deleted.Add(float64(n))
	return n, err
}

// fail says what is wrong once, and tries again later and later.
func (w *worker) fail(err error) {
	w.metrics.failures.Inc()
	if w.failed.wait == 0 {
		w.log.Warn("cannot cut stale flows, will try again: UDP clients that never pause may go on to reach endpoints that are gone", "error", err)
	}
	w.failed.grow()
}

// next returns when something is due; zero if nothing is.
func (w *worker) next() time.Time {
	next := w.book.Next()
	if !next.IsZero() && next.Before(w.failed.until) {
		return w.failed.until
	}
	return next
}

// backoff is how long to wait after failures.
type backoff struct {
	wait  time.Duration
	until time.Time
}

const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
)

func (b *backoff) grow() {
	b.wait = min(max(2*b.wait, firstWait), lastWait)
	b.until = time.Now().Add(b.wait)
}

// pause returns early if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
