package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var testKey = Key{Namespace: "ns", Name: "svc"}

func slice(name, uid, version string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), ResourceVersion: version}}
}

// TestOwnWritesAndThoseOfOthers walks through orders in which events and
// answers can arrive. Each step is an event (which says whether it asks for a
// plan) or a part of a write.
func TestOwnWritesAndThoseOfOthers(t *testing.T) {
	now := time.Unix(1000, 0)
	type step func(l *Ledger) (replan bool)
	event := func(uid, version string) step {
		return func(l *Ledger) bool { return l.Observe(testKey, slice("s", uid, version)) }
	}
	gone := func(uid string) step {
		return func(l *Ledger) bool { return l.ObserveDelete(testKey, slice("s", uid, "0")) }
	}
	begin := func(l *Ledger) bool { l.begin(testKey); return false }
	end := func(l *Ledger) bool { return l.end(testKey) }
	wrote := func(uid, version string) step {
		return func(l *Ledger) bool { l.wrote(testKey, slice("s", uid, version), now); return false }
	}
	removed := func(uid string) step {
		return func(l *Ledger) bool { l.removed(testKey, slice("s", uid, "0"), now); return false }
	}
	for _, tt := range []struct {
		name  string
		steps []step
		// replans are the steps that ask for a plan.
		replans []int
		want    []string
	}{
		{"answer, then event", []step{event("u", "1"), begin, wrote("u", "2"), end, event("u", "2")}, []int{0}, []string{"s u 2"}},
		{"event, then answer", []step{event("u", "1"), begin, event("u", "2"), wrote("u", "2"), end}, []int{0}, []string{"s u 2"}},
		{"created: event, then answer", []step{begin, event("u", "1"), wrote("u", "1"), end}, nil, []string{"s u 1"}},
		{"the informer lags: older events change nothing", []step{begin, wrote("u", "9"), end, event("u", "7"), event("u", "8"), event("u", "9")}, nil, []string{"s u 9"}},
		{"versions are numbers", []step{begin, wrote("u", "10"), end, event("u", "9")}, nil, []string{"s u 10"}},
		{"somebody else writes after us", []step{begin, wrote("u", "2"), end, event("u", "3")}, []int{3}, []string{"s u 3"}},
		{"somebody else writes during our write, which is refused", []step{event("u", "1"), begin, event("u", "2"), end}, []int{0, 3}, []string{"s u 2"}},
		{"somebody else writes between our write and its answer", []step{begin, event("u", "2"), event("u", "3"), wrote("u", "2"), end}, []int{4}, []string{"s u 3"}},
		{"a write that changed nothing", []step{event("u", "1"), begin, wrote("u", "1"), end}, []int{0}, []string{"s u 1"}},
		{"deleted: answer, then event", []step{event("u", "1"), begin, removed("u"), end, gone("u")}, []int{0}, nil},
		{"deleted: event, then answer", []step{event("u", "1"), begin, gone("u"), removed("u"), end}, []int{0}, nil},
		{"deleted: the informer lags", []step{event("u", "1"), begin, removed("u"), end, event("u", "2"), gone("u")}, []int{0}, nil},
		{"deleted by somebody else", []step{event("u", "1"), gone("u")}, []int{0, 1}, nil},
		{"deleted by somebody else right after we made it", []step{begin, event("u", "1"), gone("u"), wrote("u", "1"), end}, []int{4}, nil},
		{"deleted and made anew by somebody else", []step{event("u", "1"), gone("u"), event("v", "2")}, []int{0, 1, 2}, []string{"s v 2"}},
		{"a late deletion of what had the name before", []step{event("u", "1"), begin, removed("u"), wrote("v", "3"), end, gone("u"), event("v", "3")}, []int{0}, []string{"s v 3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := New()
			var replans []int
			for i, s := range tt.steps {
				if s(l) {
					replans = append(replans, i)
				}
			}
			if diff := cmp.Diff(tt.replans, replans); diff != "" {
				t.Errorf("steps that ask for a plan (-want +got):\n%s", diff)
			}
			var got []string
			eps, _ := l.Of(testKey)
			for _, s := range eps {
				got = append(got, fmt.Sprint(s.Name, " ", s.UID, " ", s.ResourceVersion))
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
			if len(l.gone) != 0 {
				t.Errorf("still waits for the deletion of %v", l.gone)
			}
			if len(got) == 0 && len(l.services) != 0 {
				t.Errorf("keeps an empty page")
			}
		})
	}
}

func TestOverdueWrites(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	l := New()
	l.begin(testKey)
	l.wrote(testKey, slice("seen", "a", "1"), at(1))
	l.wrote(testKey, slice("unseen", "b", "1"), at(1))
	l.wrote(testKey, slice("recent", "c", "1"), at(9))
	l.removed(testKey, slice("x", "d", "1"), at(1))
	l.end(testKey)
	l.Observe(testKey, slice("seen", "a", "1"))
	overdue := l.overdue(at(5), at(5))
	if len(overdue) != 1 || overdue[0].object.GetName() != "unseen" {
		t.Fatalf("overdue are %v", overdue)
	}
	if len(l.gone) != 0 {
		t.Errorf("remembers the deletion of %v for ever", l.gone)
	}
	l.checked(overdue[0], at(9))
	if again := l.overdue(at(5), at(5)); len(again) != 0 {
		t.Errorf("overdue after the check: %v", again)
	}
}
