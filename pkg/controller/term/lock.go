package term

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lock makes a Lease safe to lose and to give back.
//
// When renewals fail, client-go first tries to give the Lease back and tells the
// work afterwards; it does not ask whether the work has ended, and overwrites
// whoever holds the Lease by then. So the lock itself watches the renewals and
// tells the work in time, and lets the Lease be given back only after it.
//
// It also bounds each request, see bounded. An election uses it from one goroutine.
type lock struct {
	resourcelock.Interface
	timeout time.Duration
	// lose is called when there was no renewal for limit.
	lose  func()
	limit time.Duration
	timer *time.Timer // nil as long as the Lease was never ours
	// drained is closed when no work of this term runs any more.
	drained <-chan struct{}
	// holder is who held the Lease when it was last read.
	holder string
	// expired says whether a state of the Lease has been seen for too long; yield
	// is called when somebody else turns out to hold it before it was ours.
	expired func(resourcelock.LeaderElectionRecord) bool
	yield   func()
}

// campaignTimeout is how long a request of a candidate may take.
const campaignTimeout = time.Minute

// bounded bounds a request, so that a connection on which nothing comes back
// leaves time for another try. Who holds the Lease has a deadline and not much
// time. A candidate has all the time, and does well to stay with its request: a
// client that waits for a server that is away sends it at the moment of its
// return, where another try would first sit out a RetryPeriod.
func (l *lock) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := campaignTimeout
	if _, holds := ctx.Deadline(); holds {
		timeout = l.timeout
	}
	return context.WithTimeout(ctx, timeout)
}

// Get reads the Lease.
func (l *lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	record, raw, err := l.Interface.Get(ctx)
	if err != nil {
		return record, raw, err
	}
	l.holder = record.HolderIdentity
	switch {
	case l.holder == "" || l.holder == l.Identity():
	case l.timer != nil:
		l.lose() // client-go would try to renew it until its deadline
	case l.expired(*record):
		record.HolderIdentity = "" // client-go would begin to count only now
	default:
		l.yield()
	}
	return record, raw, err
}

// Create makes the Lease.
func (l *lock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	asked := time.Now()
	if err := l.Interface.Create(ctx, record); err != nil {
		l.beaten(err)
		return err
	}
	l.renewed(record, asked)
	return nil
}

// Update renews the Lease or, if record has no holder, gives it back: not before
// the work is done, and only if it is ours. Should somebody take it while that
// waits, the version that was read makes the server refuse.
func (l *lock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" {
		if l.holder != l.Identity() {
			return fmt.Errorf("the Lease is held by %q now", l.holder)
		}
		select {
		case <-l.drained:
		case <-ctx.Done():
			return errors.New("the work of the term is not done yet, so the Lease is left to expire")
		}
	}
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	asked := time.Now()
	if err := l.Interface.Update(ctx, record); err != nil {
		l.beaten(err)
		return err
	}
	l.renewed(record, asked)
	return nil
}

// beaten ends a campaign in which somebody else was quicker.
func (l *lock) beaten(err error) {
	if l.timer == nil && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)) {
		l.yield()
	}
}

// renewed notes that the Lease is ours, from when that was asked for: others
// count from a time before the answer came, too.
func (l *lock) renewed(record resourcelock.LeaderElectionRecord, asked time.Time) {
	left := l.limit - time.Since(asked)
	switch {
	case record.HolderIdentity != l.Identity():
	case l.timer == nil:
		l.timer = time.AfterFunc(left, l.lose)
	default:
		l.timer.Reset(left)
	}
}

// stop ends the watch over the renewals. The election must be over.
func (l *lock) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
}
