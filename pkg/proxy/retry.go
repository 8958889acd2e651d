package proxy

import "time"

// The first retry after a failure comes soon, as what is most often in the way
// is somebody else's short use of the tables.
const (
	firstRetry = 10 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// retry wakes the loop up when there is something to try again and nothing
// else happens.
type retry struct {
	timer *time.Timer
	wait  time.Duration
}

func newRetry() *retry {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &retry{timer: t, wait: firstRetry}
}

// after sets the timer after a pass. next is when a Service in quarantine is to
// be tried again, or zero.
func (r *retry) after(failed bool, next time.Time) {
	r.timer.Stop()
	if failed {
		r.timer.Reset(r.wait)
		r.wait = min(2*r.wait, lastRetry)
		return
	}
	r.wait = firstRetry
	if !next.IsZero() {
		r.timer.Reset(max(time.Until(next), firstRetry))
	}
}
