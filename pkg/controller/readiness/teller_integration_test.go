//go:build integration

package readiness_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/readiness"
)

// TestTold breaks Services in two ways, mends one, and changes the leader.
func TestTold(t *testing.T) {
	w := newWorld(t)
	w.node("told-1")
	web, two, well := map[string]string{"app": "web"}, map[string]string{"app": "web", "version": "2"}, map[string]string{"app": "well"}
	broken, lost, fine := w.service("broken", web), w.service("lost", two), w.service("fine", well)
	pod := w.pod("web-1", "10.1.0.1", "told-1", web, conditions("False", "False"))
	w.MergeStatus(pod, `{"status":{"containerStatuses":[{"name":"app","image":"none","imageID":"none","started":true,"state":{"running":{}}}]}}`)
	w.pod("well-1", "10.1.0.2", "told-1", well, conditions("True", "True"))
	stop := w.term()

	w.Eventually("broken has the condition", func() bool { return w.condition(broken).Status == metav1.ConditionFalse })
	w.Eventually("lost has the condition", func() bool { return w.condition(lost).Status == metav1.ConditionFalse })
	const probe = "1 pod selected, none ready: web-1: container app: readiness probe fails"
	const miss = "selector app=web,version=2 matches no pod; pod web-1 has no label version (want 2)"
	if got := w.condition(broken); got.Message != probe || got.Reason != "NoPodReady" {
		t.Errorf("broken: %s: %s", got.Reason, got.Message)
	}
	if got := w.condition(lost); got.Message != miss || got.Reason != "NoPodSelected" {
		t.Errorf("lost: %s: %s", got.Reason, got.Message)
	}
	want := []string{"broken: NoEndpoints: " + probe, "lost: NoEndpoints: " + miss}
	if got := w.eventsOf("broken", "lost", "fine"); !slices.Equal(got, want) {
		t.Errorf("events: %q", got)
	}

	stop()
	versions := w.version(broken) + w.version(lost) + w.version(fine)
	stop = w.term()
	time.Sleep(6500 * time.Millisecond) // longer than a Service must be broken until that is told
	if now := w.version(broken) + w.version(lost) + w.version(fine); now != versions {
		t.Errorf("a new leader wrote what was written: versions %s, then %s", versions, now)
	}
	if got := w.eventsOf("broken", "lost", "fine"); !slices.Equal(got, want) {
		t.Errorf("events of the new leader: %q", got)
	}

	w.MergeStatus(pod, conditions("True", "True"))
	w.Eventually("broken is mended", func() bool { return w.condition(broken).Status == metav1.ConditionTrue })
	stop()
	if got := w.condition(fine); got.Type != "" {
		t.Errorf("a Service that always was well got a condition: %v", got)
	}
}

func (w *world) condition(svc *corev1.Service) metav1.Condition {
	w.Helper()
	if err := w.Get(w.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
		w.Fatal(err)
	}
	for _, c := range svc.Status.Conditions {
		if c.Type == readiness.ConditionEndpointsReady {
			return c
		}
	}
	return metav1.Condition{}
}

func (w *world) version(svc *corev1.Service) string {
	w.condition(svc)
	return svc.ResourceVersion + " "
}

func (w *world) eventsOf(services ...string) []string {
	out := slices.DeleteFunc(w.events(), func(e string) bool {
		name, _, _ := strings.Cut(e, ":")
		return !slices.Contains(services, name)
	})
	return slices.Sorted(slices.Values(out))
}
