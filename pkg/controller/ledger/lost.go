package ledger

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// RequestTimeout bounds a request, so that a dead connection does not hold a
	// worker for ever.
	RequestTimeout = 30 * time.Second
	// SweepPeriod is how often Sweep looks.
	SweepPeriod = 5 * time.Second
	// OverdueAfter is how old an own write that no informer shows is to be asked for.
	OverdueAfter = 10 * time.Second
	// forgetAfter is how long a deletion is remembered that no informer shows.
	forgetAfter = 10 * time.Minute
)

// Sweep looks for own writes that are lost, see Lost, until ctx is done, and returns
// nil then. It calls lost with the Services, and after each look done with when it
// began.
func (l *Ledger) Sweep(ctx context.Context, server client.Reader, lost func(Key), done func(time.Time)) error {
	ticker := time.NewTicker(SweepPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			for _, k := range l.Lost(ctx, server, now) {
				lost(k)
			}
			done(now)
		}
	}
}

// Lost asks the server about own writes that no informer has shown for long, and
// returns the Services of those that it has no more: an object that is deleted
// again before a broken watch is back never shows up there, and would be taken
// for published for ever.
func (l *Ledger) Lost(ctx context.Context, server client.Reader, now time.Time) []Key {
	var lost []Key
	for _, u := range l.overdue(now.Add(-OverdueAfter), now.Add(-forgetAfter)) {
		if l.isLost(ctx, server, u) {
			lost = append(lost, u.key)
		}
	}
	return lost
}

func (l *Ledger) isLost(ctx context.Context, server client.Reader, u unconfirmed) bool {
	ctx, cancel := context.WithTimeout(ctx, RequestTimeout)
	defer cancel()
	live, ok := u.object.DeepCopyObject().(client.Object)
	if !ok {
		return false
	}
	err := server.Get(ctx, client.ObjectKeyFromObject(live), live)
	switch {
	case apierrors.IsNotFound(err), err == nil && live.GetUID() != u.object.GetUID():
		l.removed(u.key, u.object, time.Now())
		return true
	case err == nil:
		l.checked(u, time.Now())
	}
	return false
}
