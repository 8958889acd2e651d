package endpoints

import (
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// queue has the Services to look at: client-go's, with removals before
// additions, additions of one Service that wait for each other, and times at
// which to look once more. It is safe for concurrent use.
type queue struct {
	workqueue.TypedRateLimitingInterface[key]
	lanes   *lanes
	pace    *pace
	metrics *metrics

	mu   sync.Mutex
	shut bool
	// batches are the Services with additions that wait, until the timer fires.
	batches map[key]*time.Timer
	dues    map[key]*dues
}

// dues are the times at which to look at a Service once more, in order; timer is
// for the first.
type dues struct {
	at    []time.Time
	timer *time.Timer
}

// dueStep is how exact a due is: so there are not more of one Service than steps.
const dueStep = 100 * time.Millisecond

func newQueue(p *pace, m *metrics) *queue {
	l := newLanes()
	inner := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[key]{Queue: l})
	delaying := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[key]{Queue: inner})
	return &queue{
		TypedRateLimitingInterface: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[key](minBackoff, maxBackoff),
			workqueue.TypedRateLimitingQueueConfig[key]{DelayingQueue: delaying}),
		lanes: l, pace: p, metrics: m,
		batches: map[key]*time.Timer{}, dues: map[key]*dues{},
	}
}

// AddRemoval adds a key of which traffic has to be taken from something.
func (q *queue) AddRemoval(k key) {
	q.metrics.changes.WithLabelValues("removal").Inc()
	q.lanes.raise(k)
	q.Add(k)
}

// AddAddition adds a key that may wait for more of its kind. What waits goes
// along when the key is taken for another reason.
func (q *queue) AddAddition(k key) {
	q.metrics.changes.WithLabelValues("addition").Inc()
	wait := q.pace.wait(k, time.Now())
	if wait <= 0 {
		q.Add(k)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shut || q.batches[k] != nil {
		return
	}
	q.metrics.batch.Observe(wait.Seconds())
	q.batches[k] = time.AfterFunc(wait, func() { q.Add(k) })
}

// AddOnceMore adds a key after d, give or take dueStep, whatever else happens.
func (q *queue) AddOnceMore(k key, d time.Duration) {
	due := time.Now().Add(d).Truncate(dueStep).Add(dueStep)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shut {
		return
	}
	has := q.dues[k]
	if has == nil {
		has = &dues{}
		q.dues[k] = has
		has.timer = time.AfterFunc(time.Until(due), func() { q.fall(k) })
	}
	if len(has.at) == 0 || has.at[len(has.at)-1].Before(due) {
		has.at = append(has.at, due)
	}
}

// fall adds a key of which the first due has come.
func (q *queue) fall(k key) {
	q.mu.Lock()
	has := q.dues[k]
	if q.shut || has == nil {
		q.mu.Unlock()
		return
	}
	if has.at = has.at[1:]; len(has.at) == 0 {
		delete(q.dues, k)
	} else {
		has.timer.Reset(time.Until(has.at[0]))
	}
	q.mu.Unlock()
	q.lanes.raise(k)
	q.Add(k)
}

// Get returns the next key, like client-go's.
func (q *queue) Get() (k key, shutdown bool) {
	k, shutdown = q.TypedRateLimitingInterface.Get()
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.batches[k]; t != nil {
		t.Stop()
		delete(q.batches, k)
	}
	return k, shutdown
}

// AddRateLimited and AddAfter add a key that failed: a removal is one again.
func (q *queue) AddRateLimited(k key) {
	q.lanes.raiseAgain(k)
	q.TypedRateLimitingInterface.AddRateLimited(k)
}

// AddAfter is like AddRateLimited, after d.
func (q *queue) AddAfter(k key, d time.Duration) {
	q.lanes.raiseAgain(k)
	q.TypedRateLimitingInterface.AddAfter(k, d)
}

// Done says that the work on a key has ended, like client-go's.
func (q *queue) Done(k key) {
	q.lanes.done(k)
	q.TypedRateLimitingInterface.Done(k)
}

// ShutDown ends the queue and stops all timers.
func (q *queue) ShutDown() {
	q.mu.Lock()
	q.shut = true
	for _, t := range q.batches {
		t.Stop()
	}
	for _, d := range q.dues {
		d.timer.Stop()
	}
	q.mu.Unlock()
	q.TypedRateLimitingInterface.ShutDown()
}
