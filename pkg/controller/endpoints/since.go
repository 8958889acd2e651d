package endpoints

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

// noteChange remembers for Services when a pod changed, unless it has already
// changed since their last plan: a write is as late as the oldest change that it
// publishes, and the pod itself tells only its last.
func (x *index) noteChange(pod *corev1.Pod, keys []key) {
	at := plan.ChangeTime(pod)
	for _, k := range keys {
		if s := x.services[k]; s != nil {
			s.changed(pod.UID, at)
		}
	}
}

func (s *serviceEntry) changed(pod types.UID, at time.Time) {
	if first, known := s.since[pod]; known && !at.Before(first) {
		return
	}
	if s.since == nil {
		s.since = map[types.UID]time.Time{}
	}
	s.since[pod] = at
}

// unsynced takes back what input gave for a plan that failed.
func (x *index) unsynced(k key, since map[types.UID]time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := x.services[k]; s != nil {
		s.other = true
		for pod, at := range since {
			s.changed(pod, at)
		}
	}
}
