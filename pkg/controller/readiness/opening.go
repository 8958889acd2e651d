package readiness

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// The reasons of the condition verdict.ProgrammedGate of a pod.
const (
	// reasonProgrammed (True): as many nodes as were asked for send to the pod.
	reasonProgrammed = "Programmed"
	// reasonTimedOut (True): they did not in time, and a roll-out must go on.
	reasonTimedOut = "TimedOut"
	// reasonNoService (True): there is nothing to wait for.
	reasonNoService = "NoService"
	// reasonLapsed (False): the pod was taken out because of itself, and has to be
	// brought to the nodes again when it is well.
	reasonLapsed = "EndpointsLeft"
)

// mostNamed is how many nodes are named in a condition that are behind.
const mostNamed = 5

// terms are what a pod waits for.
type terms struct {
	// wanted is how many of a number of nodes have to send to the pod.
	wanted  func(nodes int) int
	timeout time.Duration
}

// wait is what is remembered of a pod that waits.
type wait struct {
	// since is when it began to; zero while its node is dead.
	since time.Time
	// version is what nodes have to have programmed, 0 until that is known: until
	// all Services have published the pod. It stays then, whatever else happens to
	// the slices.
	version uint64
}

// opening is how a gate is to be set.
type opening struct {
	status          corev1.ConditionStatus
	reason, message string
}

// next decides about a pod of which this is known now; reached has the versions
// that the nodes which count have programmed, as far as they said. It returns nil
// if the pod has to wait.
func (w *wait) next(pod *corev1.Pod, s verdict.Standing, reached map[string]uint64, t terms, now time.Time) *opening {
	if s.Dead {
		// When the kubelet is back it would find the gate open, and the pod nowhere.
		*w = wait{}
		return nil
	}
	if w.since.IsZero() {
		w.since = now
	}
	after := now.Sub(w.since)
	if w.version == 0 {
		switch {
		case s.Services == 0 && pod.Status.PodIP != "":
			return &opening{corev1.ConditionTrue, reasonNoService, "no Service has a place for the pod"}
		case s.Services > 0 && s.Published == s.Services:
			if w.version = s.Version; w.version == 0 {
				w.version = math.MaxUint64 // a server without numbers: nobody can tell
			}
		case after < t.timeout:
			return nil
		default:
			return timedOut(after, fmt.Sprintf("%d of %d Services have published the pod", s.Published, s.Services))
		}
	}
	behind := w.behind(reached)
	on := len(reached) - len(behind)
	count := fmt.Sprintf("%d of %d nodes send to the pod", on, len(reached))
	switch {
	case len(reached) > 0 && on >= t.wanted(len(reached)):
		return &opening{corev1.ConditionTrue, reasonProgrammed, fmt.Sprintf("%s, after %d ms", count, after.Milliseconds())}
	case after < t.timeout:
		return nil
	case len(reached) == 0:
		return timedOut(after, "no node is known to run Signpost")
	default:
		return timedOut(after, count+"; behind: "+some(behind))
	}
}

func timedOut(after time.Duration, what string) *opening {
	return &opening{corev1.ConditionTrue, reasonTimedOut, fmt.Sprintf("after %s %s", after.Round(100*time.Millisecond), what)}
}

// behind returns the nodes that have not programmed the pod, sorted.
func (w *wait) behind(reached map[string]uint64) []string {
	var out []string
	for node, version := range reached {
		if version < w.version {
			out = append(out, node)
		}
	}
	slices.Sort(out)
	return out
}

func some(names []string) string {
	if len(names) <= mostNamed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), len(names)-mostNamed)
}

// lapsed is the opening of a pod for which verdict.Lapses.
func lapsed() *opening {
	return &opening{corev1.ConditionFalse, reasonLapsed, "the pod was not ready; it waits for the nodes again when its containers are"}
}
