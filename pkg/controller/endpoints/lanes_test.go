package endpoints

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func newTestQueue(t *testing.T, floor time.Duration) *queue {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(newPace(floor), m)
	t.Cleanup(q.ShutDown)
	return q
}

func named(name string) key { return key{Namespace: "ns", Name: name} }

// take takes n keys one after the other.
func take(q *queue, n int) string {
	var got []string
	for range n {
		k, _ := q.Get()
		got = append(got, k.Name)
		q.Done(k)
	}
	return strings.Join(got, " ")
}

func TestRemovalsGoFirst(t *testing.T) {
	for _, tt := range []struct{ name, add, want string }{
		{"in the order of their coming", "+a +b +c", "a b c"},
		{"each once", "+a +b +a", "a b"},
		{"removals first", "+a -r +b -s", "r s a b"},
		{"an addition becomes a removal", "+a +b +c -b", "b a c"},
		{"a removal stays one", "+a -b +b +c", "b a c"},
		{"an addition gets a turn", "+a -1 -2 -3 -4 -5 -6 -7 -8 -9 +b", "1 2 3 4 5 6 7 8 a 9 b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := newTestQueue(t, 0)
			for add := range strings.FieldsSeq(tt.add) {
				if k := named(add[1:]); add[0] == '-' {
					q.AddRemoval(k)
				} else {
					q.AddAddition(k)
				}
			}
			if got := take(q, q.Len()); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.add, got, tt.want)
			}
		})
	}
}

// TestARemovalWhileItsServiceIsWorkedOn goes first when that is done; one that
// fails is a removal when it is tried again, and no longer when it has succeeded.
func TestARemovalWhileItsServiceIsWorkedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTestQueue(t, 0)
		q.AddAddition(named("a"))
		a, _ := q.Get()
		q.AddAddition(named("b"))
		if q.lanes.pressing(a) {
			t.Error("an addition is pressing")
		}
		q.AddRemoval(a)
		if !q.lanes.pressing(a) || q.lanes.pressing(named("b")) {
			t.Error("a removal of the Service itself is pressing for it, and only for it while it does not wait")
		}
		q.Done(a)
		if !q.lanes.pressing(named("b")) {
			t.Error("a removal that waits for a worker is not pressing")
		}
		q.Get()
		q.AddRateLimited(a)
		q.Done(a)
		time.Sleep(time.Second)
		if got := take(q, 2); got != "a b" {
			t.Errorf("took %s", got)
		}
		q.AddAddition(named("b"))
		q.AddAddition(a)
		if got := take(q, 2); got != "b a" {
			t.Errorf("took %s", got)
		}
		q.ShutDown()
	})
}

// TestLanesAgainstAModel: whatever is added is taken once, removals first.
func TestLanesAgainstAModel(t *testing.T) {
	const seed, rounds = 7, 20000
	rng := rand.New(rand.NewPCG(seed, 0))
	q := newTestQueue(t, 0)
	var removals, additions []key
	row := 0
	for round := range rounds {
		k := named(fmt.Sprint(rng.IntN(30)))
		switch rng.IntN(5) {
		case 0:
			q.AddRemoval(k)
			if i := slices.Index(additions, k); i >= 0 {
				additions = slices.Delete(additions, i, i+1)
			}
			if !slices.Contains(removals, k) {
				removals = append(removals, k)
			}
		case 1, 2:
			q.AddAddition(k)
			if !slices.Contains(removals, k) && !slices.Contains(additions, k) {
				additions = append(additions, k)
			}
		default:
			if len(removals)+len(additions) == 0 {
				continue
			}
			got, _ := q.Get()
			q.Done(got)
			from := &additions
			if len(removals) > 0 && (len(additions) == 0 || row < additionsTurn) {
				from = &removals
			}
			if !slices.Contains(*from, got) {
				t.Fatalf("seed %d, round %d: took %v, want one of %v (removals %v, %d in a row)", seed, round, got, *from, removals, row)
			}
			if row++; from == &additions || len(additions) == 0 {
				row = 0
			}
			*from = slices.DeleteFunc(*from, func(k key) bool { return k == got })
		}
		if q.Len() != len(removals)+len(additions) {
			t.Fatalf("seed %d, round %d: %d wait, want %d", seed, round, q.Len(), len(removals)+len(additions))
		}
	}
}

// benchOther makes Service i with a pod, ready or not.
func benchOther(i int) (*corev1.Service, func(ready bool) *corev1.Pod) {
	app := map[string]string{"app": fmt.Sprint("other-", i)}
	svc := benchService()
	svc.Name, svc.UID, svc.Spec.Selector = fmt.Sprint("other-", i), types.UID(fmt.Sprint("other-uid-", i)), app
	version := 0
	return svc, func(ready bool) *corev1.Pod {
		version++
		p := benchPod(i, version, ready)
		p.Name, p.UID, p.Labels = fmt.Sprint("other-", i), types.UID(fmt.Sprint("other-pod-", i)), app
		return p
	}
}

// TestARemovalIsNotBehindOtherServices: hundreds of Services wait for the only
// worker when a pod of another one fails.
func TestARemovalIsNotBehindOtherServices(t *testing.T) {
	inBubble(t, func(o *Options) { o.Concurrency, o.Endpoints = 1, false }, func(b *bench) {
		b.start(1)
		time.Sleep(time.Second)
		for i := range 200 {
			svc, pod := benchOther(i + 10)
			b.tell(svc, false)
			b.tell(pod(true), false)
		}
		b.tell(benchPod(0, 2, false), false)
		time.Sleep(2*writeTime + time.Millisecond)
		if b.onServer()["10.0.0.1"] {
			b.Error("the failed pod is still published after the time of two writes")
		}
		time.Sleep(10 * time.Second)
		if n := len(b.onServer()); n != 201 {
			b.Errorf("%d endpoints are published", n)
		}
	})
}

// TestARemovalIsNotBehindALargePlan: the only worker has a Service with 120
// slices to make when a pod of another one fails, and then one of its own.
func TestARemovalIsNotBehindALargePlan(t *testing.T) {
	inBubble(t, func(o *Options) { o.Concurrency, o.Endpoints, o.MaxEndpointsPerSlice = 1, false, 1 }, func(b *bench) {
		svc, pod := benchOther(200)
		b.start(0)
		b.tell(svc, false)
		b.tell(pod(true), false)
		time.Sleep(time.Second)
		b.setFail(func() error { return errServer }) // so that there is one plan for all
		for i := range 120 {
			b.tell(benchPod(i, 1, true), false)
		}
		time.Sleep(time.Second)
		b.setFail(nil)
		before := b.total()
		for b.total() < before+2*parallelWrites {
			time.Sleep(time.Millisecond)
		}
		b.tell(pod(false), false)
		time.Sleep(4 * writeTime)
		if got := b.onServer(); got["10.0.0.201"] {
			b.Errorf("the failed pod of another Service is still published, beside %d more", len(got)-1)
		}
		var first *discoveryv1.EndpointSlice
		var list discoveryv1.EndpointSliceList
		if err := b.List(b.Context(), &list, client.MatchingLabels{discoveryv1.LabelServiceName: "svc"}); err != nil || len(list.Items) == 0 {
			b.Fatal(len(list.Items), err)
		}
		first = &list.Items[0]
		var i int
		if _, err := fmt.Sscanf(first.Endpoints[0].TargetRef.Name, "pod-%d", &i); err != nil {
			b.Fatal(err)
		}
		b.tell(benchPod(i, 2, false), false)
		time.Sleep(4 * writeTime)
		got := b.onServer()
		if got[first.Endpoints[0].Addresses[0]] {
			b.Errorf("the failed pod of the same Service is still published, beside %d more", len(got)-1)
		}
		if len(got) > 100 {
			b.Fatalf("%d endpoints are published already: the test proves nothing", len(got))
		}
		time.Sleep(10 * time.Second)
		if got := b.onServer(); len(got) != 121 {
			b.Errorf("%d endpoints are published in the end", len(got))
		}
	})
}
