package readiness

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// TestOpening walks pods that wait through time. Each step is what is known some
// seconds after the start, and what should come of it.
func TestOpening(t *testing.T) {
	type step struct {
		at       float64
		standing verdict.Standing
		reached  map[string]uint64
		want     string // empty: wait
	}
	all := func(n int) int { return n }
	nowhere, half := verdict.Standing{Services: 2}, verdict.Standing{Services: 2, Published: 1, Version: 7}
	there, later := verdict.Standing{Services: 2, Published: 2, Version: 10}, verdict.Standing{Services: 2, Published: 2, Version: 20}
	type on = map[string]uint64
	for _, tt := range []struct {
		name   string
		wanted func(int) int
		noIP   bool
		steps  []step
	}{
		{"published, then programmed on one, then on both", all, false, []step{
			{0, nowhere, on{"a": 100, "b": 100}, ""}, {1, half, on{"a": 100, "b": 100}, ""}, {2, there, on{"a": 9, "b": 9}, ""},
			{3, there, on{"a": 10, "b": 9}, ""}, {3.5, there, on{"a": 10, "b": 11}, "True Programmed: 2 of 2 nodes send to the pod, after 3500 ms"}}},
		{"half of them", func(n int) int { return n / 2 }, false, []step{{0, there, on{"a": 0, "b": 12}, "True Programmed: 1 of 2 nodes send to the pod, after 0 ms"}}},
		{"the slice goes on being written", all, false, []step{{0, there, on{"a": 0}, ""}, {1, later, on{"a": 10}, "True Programmed: 1 of 1 nodes send to the pod, after 1000 ms"}}},
		{"a slow node", all, false, []step{{0, there, on{"a": 10, "b": 0}, ""}, {29.9, there, on{"a": 10, "b": 9}, ""},
			{30, there, on{"a": 10, "b": 9}, "True TimedOut: after 30s 1 of 2 nodes send to the pod; behind: b"}}},
		{"a slow node that dies", all, false, []step{{0, there, on{"a": 10, "b": 0}, ""}, {5, there, on{"a": 10}, "True Programmed: 1 of 1 nodes send to the pod, after 5000 ms"}}},
		{"many slow nodes", all, false, []step{{0, there, on{"a": 0, "b": 0, "c": 0, "d": 0, "e": 0, "f": 0, "g": 0}, ""},
			{30, there, on{"a": 0, "b": 0, "c": 0, "d": 0, "e": 0, "f": 0, "g": 0},
				"True TimedOut: after 30s 0 of 7 nodes send to the pod; behind: a, b, c, d, e and 2 more"}}},
		{"no node known", all, false, []step{{0, there, nil, ""}, {30, there, nil, "True TimedOut: after 30s no node is known to run Signpost"}}},
		{"never published", all, false, []step{{0, half, on{"a": 99}, ""}, {31, half, on{"a": 99}, "True TimedOut: after 31s 1 of 2 Services have published the pod"}}},
		{"no Service", all, false, []step{{0, verdict.Standing{}, on{"a": 0}, "True NoService: no Service has a place for the pod"}}},
		{"no address yet", all, true, []step{{0, verdict.Standing{}, on{"a": 0}, ""}, {1, there, on{"a": 10}, "True Programmed: 1 of 1 nodes send to the pod, after 1000 ms"}}},
		{"versions that are no numbers", all, false, []step{{0, verdict.Standing{Services: 1, Published: 1}, on{"a": 99}, ""},
			{30, verdict.Standing{Services: 1, Published: 1}, on{"a": 99}, "True TimedOut: after 30s 0 of 1 nodes send to the pod; behind: a"}}},
		{"its own node dies, and comes back", all, false, []step{
			{0, there, on{"a": 0, "b": 10}, ""}, {29, verdict.Standing{Services: 2, Dead: true}, on{"b": 10}, ""},
			{100, verdict.Standing{Services: 2, Dead: true}, on{"b": 20}, ""}, {101, nowhere, on{"a": 20, "b": 20}, ""},
			{102, later, on{"a": 20, "b": 20}, "True Programmed: 2 of 2 nodes send to the pod, after 1000 ms"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			pod := &corev1.Pod{Status: corev1.PodStatus{PodIP: "10.0.0.1"}}
			if tt.noIP {
				pod.Status.PodIP = ""
			}
			w := &wait{since: start}
			for i, st := range tt.steps {
				got := ""
				if o := w.next(pod, st.standing, st.reached, terms{tt.wanted, 30 * time.Second}, start.Add(time.Duration(st.at*float64(time.Second)))); o != nil {
					got = string(o.status) + " " + o.reason + ": " + o.message
				}
				if diff := cmp.Diff(st.want, got); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}
