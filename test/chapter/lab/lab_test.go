package lab

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

func TestQuote(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"get", "services", "-o", "wide"}, "get services -o wide"},
		{[]string{"sh", "-c", "echo a; echo 'b'"}, `sh -c 'echo a; echo '\''b'\'''`},
		{[]string{""}, "''"},
	} {
		if got := quote(tt.args); got != tt.want {
			t.Errorf("quote(%q) = %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestParseShot(t *testing.T) {
	for _, tt := range []struct {
		line string
		want Shot
		ok   bool
	}{
		{"1000 2000 alpaca-1", Shot{Begin: time.Unix(0, 1000), End: time.Unix(0, 2000), Pod: "alpaca-1"}, true},
		{"1000 2000 !connection_refused", Shot{Begin: time.Unix(0, 1000), End: time.Unix(0, 2000), Err: "connection_refused"}, true},
		{"1000 2000", Shot{}, false},
		{"x 2000 a", Shot{}, false},
		{"1000 x a", Shot{}, false},
	} {
		got, err := parseShot(tt.line)
		if (err == nil) != tt.ok || !cmp.Equal(got, tt.want) {
			t.Errorf("parseShot(%q) = %+v, %v, want %+v, ok %v", tt.line, got, err, tt.want, tt.ok)
		}
	}
}

// TestStartTime compares what is read of this process with what it knows.
func TestStartTime(t *testing.T) {
	got, err := startTime("/proc/" + strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(got); age < -50*time.Millisecond || age > time.Minute {
		t.Errorf("this process was started %v ago", age)
	}
}

func TestNodeNumber(t *testing.T) {
	if n, err := NodeNumber("node2"); n != 2 || err != nil {
		t.Errorf("NodeNumber(node2) = %d, %v", n, err)
	}
	if _, err := NodeNumber("worker-a"); err == nil {
		t.Error("a node of another cluster has a number")
	}
}

// TestChanges holds that only changes are told, and in which cases one is found.
func TestChanges(t *testing.T) {
	w := watch.NewFakeWithChanSize(10, false)
	slice := func(ready bool) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{{
			TargetRef:  &corev1.ObjectReference{Name: "a"},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}}}
	}
	c := collect(w, func(o runtime.Object, _ bool) map[string]bool {
		return map[string]bool{"a": *o.(*discoveryv1.EndpointSlice).Endpoints[0].Conditions.Ready}
	})
	begin := time.Now()
	w.Add(slice(true))
	w.Modify(slice(true))
	w.Modify(slice(false))
	w.Modify(slice(true))
	if _, err := c.Await(t.Context(), time.Second, begin, "a", false); err != nil {
		t.Fatal(err)
	}
	c.Stop()
	var got []bool
	for _, x := range c.changes {
		got = append(got, x.Ready)
	}
	if diff := cmp.Diff([]bool{true, false, true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, found := c.After(time.Now(), "a", true); found {
		t.Error("a change of the future was found")
	}
	if _, found := c.After(begin, "b", true); found {
		t.Error("a change of a pod that there is not was found")
	}
}

func TestPodReady(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	if PodReady(pod) {
		t.Error("a pod without conditions is ready")
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if !PodReady(pod) {
		t.Error("a ready pod is not ready")
	}
}
