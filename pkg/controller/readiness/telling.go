package readiness

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// ConditionEndpointsReady is the condition of a Service that says whether it has
// an endpoint that new connections go to.
const ConditionEndpointsReady = "signpost.dev/EndpointsReady"

const (
	// reasonReady is the condition's reason when it is True.
	reasonReady = "EndpointsReady"
	// eventReason is that of the Event.
	eventReason = "NoEndpoints"
	// settle is how long a Service must be without endpoints before that is told:
	// a new one has none at first, and nobody is waiting for it.
	settle = 5 * time.Second
	// atMostEvery bounds how often one Service is written to.
	atMostEvery = time.Second
	// writeAgain is when a condition is written again that was not, or not seen.
	writeAgain = 5 * time.Second
	// firstLook is when it is looked again why a Service has no endpoints, which
	// changes as its pods fail in other ways. Each time that it has changed the
	// next look is twice as far away, up to lastLook.
	firstLook = 30 * time.Second
	lastLook  = 10 * time.Minute
)

// story is what a Teller remembers of a Service that is or was without endpoints.
type story struct {
	// since is when it was found without, zero if it has some.
	since time.Time
	// toldAt is when something was told last, and told what, if it was bad.
	toldAt time.Time
	told   string
	look   time.Duration
}

// act is what to do now.
type act struct {
	// condition to write, or nil.
	condition *metav1.Condition
	// event is the text of an Event, or empty.
	event string
	// again is when to look again, 0 for when it is observed next.
	again time.Duration
	// forget: there is nothing to remember.
	forget bool
}

// next decides what to do about a Service of which this is known now. With
// conditions false it only makes Events.
func (s *story) next(e verdict.Explanation, conditions bool, now time.Time) act {
	var has *metav1.Condition
	if conditions {
		has = conditionOf(e.Service)
	}
	if e.Usable {
		return s.usable(has, now)
	}
	if s.since.IsZero() {
		s.since, s.look = now, firstLook
		if has != nil && has.Status == metav1.ConditionFalse {
			// Told in an earlier term: there is nothing to wait for.
			s.since, s.told = now.Add(-settle), has.Message
		}
	}
	if wait := s.since.Add(settle).Sub(now); wait > 0 {
		return act{again: wait}
	}
	if s.told == e.Message && (!conditions || has != nil && has.Status == metav1.ConditionFalse && has.Message == e.Message) {
		return act{again: s.look}
	}
	return s.unusable(e, has, conditions, now)
}

// unusable tells of a Service that has no endpoint, and of which that was not
// told, or with other words, or which has not got the condition.
func (s *story) unusable(e verdict.Explanation, has *metav1.Condition, conditions bool, now time.Time) act {
	news := s.told != e.Message
	gap := atMostEvery
	switch {
	case !news:
		gap = writeAgain
	case s.told != "":
		gap = s.look
	}
	if wait := s.toldAt.Add(gap).Sub(now); wait > 0 {
		return act{again: wait}
	}
	out := act{again: s.look}
	if news {
		out.event = e.Message
		if s.told != "" {
			s.look = min(2*s.look, lastLook)
		}
	}
	s.told, s.toldAt = e.Message, now
	if conditions {
		out.condition, out.again = condition(has, metav1.ConditionFalse, e.Reason, e.Message, now), writeAgain
	}
	return out
}

func (s *story) usable(has *metav1.Condition, now time.Time) act {
	s.since, s.told = time.Time{}, ""
	if has == nil || has.Status == metav1.ConditionTrue {
		if wait := s.toldAt.Add(atMostEvery).Sub(now); wait > 0 {
			return act{again: wait}
		}
		return act{forget: true}
	}
	if wait := s.toldAt.Add(atMostEvery).Sub(now); wait > 0 {
		return act{again: wait}
	}
	s.toldAt = now
	return act{
		condition: condition(has, metav1.ConditionTrue, reasonReady, "new connections go to an endpoint", now),
		again:     atMostEvery, // to see that it was written, and forget
	}
}

// condition changes its time only with its status.
func condition(has *metav1.Condition, status metav1.ConditionStatus, reason, message string, now time.Time) *metav1.Condition {
	out := &metav1.Condition{Type: ConditionEndpointsReady, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(now)}
	if has != nil && has.Status == status {
		out.LastTransitionTime = has.LastTransitionTime
	}
	return out
}

func conditionOf(svc *corev1.Service) *metav1.Condition {
	for i := range svc.Status.Conditions {
		if svc.Status.Conditions[i].Type == ConditionEndpointsReady {
			return &svc.Status.Conditions[i]
		}
	}
	return nil
}
