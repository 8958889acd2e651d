package plan

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
	"github.com/signpost-dev/signpost/pkg/model"
)

// finish sorts the plan and stamps what it writes with the trigger time.
func (p *planner) finish() Plan {
	p.plan.Trigger = p.trigger.earliest
	for _, w := range p.plan.Writes {
		if w.Verb != Delete {
			w.Object.SetAnnotations(p.stamped(w.Object.GetAnnotations()))
		}
	}
	slices.SortStableFunc(p.plan.Writes, func(a, b Write) int { return cmp.Compare(a.Phase, b.Phase) })
	slices.SortFunc(p.plan.Problems, func(a, b model.Problem) int { return cmp.Compare(a.Field, b.Field) })
	return p.plan
}

// stamped returns a copy of the annotations with the trigger time, or without
// one where the trigger is not known: an old one would be taken for this write's.
func (p *planner) stamped(annotations map[string]string) map[string]string {
	out := make(map[string]string, len(annotations)+1)
	maps.Copy(out, annotations)
	delete(out, corev1.EndpointsLastChangeTriggerTime)
	if t := p.trigger.earliest; !t.IsZero() {
		out[corev1.EndpointsLastChangeTriggerTime] = t.UTC().Format(time.RFC3339Nano)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// trigger finds the earliest of the changes that a plan publishes.
type trigger struct{ earliest time.Time }

func (t *trigger) note(at time.Time) {
	if !at.IsZero() && (t.earliest.IsZero() || at.Before(t.earliest)) {
		t.earliest = at
	}
}

// podChanged notes that an endpoint is new or has other conditions. No pod can
// have become part of a Service before there was the Service.
func (p *planner) podChanged(pod *corev1.Pod) {
	at := ChangeTime(pod)
	if since, ok := p.Since[pod.UID]; ok && since.Before(at) {
		at = since
	}
	if created := p.Service.CreationTimestamp.Time; at.Before(created) {
		at = created
	}
	p.trigger.note(at)
}

// ChangeTime is when the pod last became what it is to a Service: when its
// deletion was asked for, or when its readiness changed, or when it was made.
func ChangeTime(pod *corev1.Pod) time.Time {
	if deleted := pod.DeletionTimestamp; deleted != nil {
		if grace := pod.DeletionGracePeriodSeconds; grace != nil {
			return deleted.Add(-time.Duration(*grace) * time.Second)
		}
		return deleted.Time
	}
	if at := verdict.ReadyChanged(pod); !at.IsZero() {
		return at
	}
	return pod.CreationTimestamp.Time
}
