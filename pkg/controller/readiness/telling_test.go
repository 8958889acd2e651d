package readiness

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/controller/readiness/verdict"
)

// step is what is known of the Service some seconds after the start, and what
// should come of it: in words.
type step struct {
	at      float64
	message string // empty: usable
	want    string
}

// TestStory walks a Service through time. What is written is there at once.
func TestStory(t *testing.T) {
	for _, tt := range []struct {
		name          string
		has           string // status of the condition at the start
		eventsOnly    bool
		refuseToWrite bool
		steps         []step
	}{
		{"always well", "", false, false, []step{{0, "", "forget"}, {10, "", "forget"}}},
		{"well again before it was told", "", false, false, []step{{0, "none", "again in 5s"}, {4, "", "forget"}}},
		{"told once, and once when it is well", "", false, false, []step{
			{0, "none", "again in 5s"}, {5, "none", "event; False; again in 5s"}, {6, "none", "again in 30s"},
			{7, "", "True; again in 1s"}, {9, "", "forget"}}},
		{"up and down within a second", "", false, false, []step{
			{0, "none", "again in 5s"}, {5, "none", "event; False; again in 5s"}, {5.5, "", "again in 500ms"},
			{6, "", "True; again in 1s"}, {6.5, "none", "again in 5s"}, {11.5, "none", "event; False; again in 5s"}}},
		{"another reason is told ever more seldom", "", false, false, []step{
			{0, "a", "again in 5s"}, {5, "a", "event; False; again in 5s"}, {10, "b", "again in 25s"},
			{35, "b", "event; False; again in 5s"}, {40, "a", "again in 55s"}, {95, "a", "event; False; again in 5s"}}},
		{"a leader that comes later has nothing new to tell", "False", false, false, []step{{0, "told", "again in 30s"}, {30, "told", "again in 30s"}}},
		{"a leader that comes later finds it well", "False", false, false, []step{{0, "", "True; again in 1s"}, {1, "", "forget"}}},
		{"a leader that comes later finds another reason", "False", false, false, []step{{0, "new", "event; False; again in 5s"}}},
		{"a leader that comes later finds it lost", "True", false, false, []step{{0, "none", "again in 5s"}, {5, "none", "event; False; again in 5s"}}},
		{"the server refuses", "", false, true, []step{
			{0, "none", "again in 5s"}, {5, "none", "event; False; again in 5s"}, {10, "none", "False; again in 5s"}, {12, "none", "again in 3s"}}},
		{"without conditions", "", true, false, []step{
			{0, "none", "again in 5s"}, {5, "none", "event; again in 30s"}, {35, "none", "again in 30s"}, {36, "", "forget"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Unix(1000, 0)
			svc := &corev1.Service{}
			if tt.has != "" {
				svc.Status.Conditions = []metav1.Condition{{Type: ConditionEndpointsReady, Status: metav1.ConditionStatus(tt.has), Message: "told"}}
			}
			s := &story{}
			for i, st := range tt.steps {
				do := s.next(verdict.Explanation{Service: svc, Usable: st.message == "", Reason: "Why", Message: st.message},
					!tt.eventsOnly, start.Add(time.Duration(st.at*float64(time.Second))))
				if diff := cmp.Diff(st.want, words(do)); diff != "" {
					t.Fatalf("step %d (-want +got):\n%s", i, diff)
				}
				if do.condition != nil && !tt.refuseToWrite {
					svc.Status.Conditions = []metav1.Condition{*do.condition}
				}
				if do.forget {
					s = &story{}
				}
			}
		})
	}
}

func words(a act) string {
	out := ""
	add := func(s string) {
		if out != "" {
			out += "; "
		}
		out += s
	}
	if a.event != "" {
		add("event")
	}
	if a.condition != nil {
		add(string(a.condition.Status))
	}
	if a.again > 0 {
		add("again in " + a.again.String())
	}
	if a.forget {
		add("forget")
	}
	return out
}

// TestConditionKeepsItsTime: the time is that of the change of status, not of words.
func TestConditionKeepsItsTime(t *testing.T) {
	first := condition(nil, metav1.ConditionFalse, "A", "a", time.Unix(1, 0))
	if got := condition(first, metav1.ConditionFalse, "B", "b", time.Unix(2, 0)); got.LastTransitionTime != first.LastTransitionTime {
		t.Errorf("other words changed it to %v", got.LastTransitionTime)
	}
	if got := condition(first, metav1.ConditionTrue, "B", "b", time.Unix(2, 0)); got.LastTransitionTime.Unix() != 2 {
		t.Errorf("another status did not: %v", got.LastTransitionTime)
	}
}
