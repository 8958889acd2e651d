package plan

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// flip returns the pod with another readiness.
func flip(p *corev1.Pod, at time.Time) *corev1.Pod {
	ready := len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Status == corev1.ConditionTrue
	p = p.DeepCopy()
	setReady(p, !ready, at)
	return p
}

// flipSome flips up to n pods and returns the input of MakeFlips, or false if
// there is none to flip.
func (w *world) flipSome(rng *rand.Rand, n int) (Input, bool) {
	in := w.Input
	in.Pods, in.Since = nil, map[types.UID]time.Time{}
	selected := map[types.UID]bool{}
	for _, p := range w.input().Pods {
		selected[p.UID] = true
	}
	for range 1 + rng.IntN(n) {
		i := rng.IntN(len(w.all))
		was := w.all[i]
		is := flip(was, epoch.Add(time.Duration(rng.IntN(1000))*time.Second))
		if _, twice := in.Since[was.UID]; twice || !selected[was.UID] || !OnlyFlipped(was, is) {
			continue
		}
		w.all[i] = is
		in.Pods = append(in.Pods, is)
		in.Since[is.UID] = ChangeTime(is)
	}
	return in, len(in.Pods) > 0
}

// checkFlips compares MakeFlips with Make, and says whether it was enough.
func (w *world) checkFlips(t *testing.T, in Input, opt Options) bool {
	t.Helper()
	got, ok := MakeFlips(in, opt)
	all := w.input()
	all.Since = in.Since
	want := Make(all, opt)
	if ok {
		got.Problems, want.Problems = nil, nil
		byName := func(a, b Write) int {
			return cmp.Or(cmp.Compare(a.Phase, b.Phase), cmp.Compare(fmt.Sprintf("%T %s", a.Object, a.Object.GetName()), fmt.Sprintf("%T %s", b.Object, b.Object.GetName())))
		}
		slices.SortFunc(got.Writes, byName)
		slices.SortFunc(want.Writes, byName)
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("%d pods flipped (-whole +flips):\n%s", len(in.Pods), diff)
		}
	}
	w.apply(t, want)
	return ok
}

// TestFlipsEqualWhole: MakeFlips gives the plan that Make does, and is nearly
// always enough.
func TestFlipsEqualWhole(t *testing.T) {
	tries, enough := 0, 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(randomService(rng)).nodes(map[string]string{"node-1": "a", "node-2": "b"})
		for n := range 1 + rng.IntN(60) {
			w.all = append(w.all, randomPod(rng, n))
		}
		opt := Options{Endpoints: rng.IntN(4) > 0, EndpointSlices: true, MaxEndpointsPerSlice: 1 + rng.IntN(20)}
		w.sync(t, opt)
		for range 20 {
			in, ok := w.flipSome(rng, 4)
			if !ok {
				continue
			}
			tries++
			if w.checkFlips(t, in, opt) {
				enough++
			}
			w.shuffle(rng)
		}
	}
	t.Logf("%d times pods flipped, %d times MakeFlips was enough", tries, enough)
	if enough < tries*9/10 {
		t.Errorf("MakeFlips was enough %d of %d times", enough, tries)
	}
}

// TestFlipsOfMany is TestFlipsEqualWhole where Endpoints are truncated.
func TestFlipsOfMany(t *testing.T) {
	tries, enough := 0, 0
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 8))
		w := newWorld(service()).nodes(map[string]string{"node-1": "a"})
		for n := range 1040 + 300*int(seed) { // the first comes to have less than MaxEndpoints that are ready
			w.all = append(w.all, pod(n))
		}
		w.sync(t, bothKinds)
		for range 60 {
			in, _ := w.flipSome(rng, 5)
			tries++
			if w.checkFlips(t, in, bothKinds) {
				enough++
			}
		}
	}
	t.Logf("%d times pods flipped, %d times MakeFlips was enough", tries, enough)
	if enough < tries/2 {
		t.Errorf("MakeFlips was enough %d of %d times", enough, tries)
	}
}

// BenchmarkOneFlip plans the flip of one of 5,000 pods, by the whole and by itself.
func BenchmarkOneFlip(b *testing.B) {
	w := newWorld(service()).nodes(map[string]string{"node-1": "a"})
	for n := range 5000 {
		w.all = append(w.all, pod(n))
	}
	w.apply(b, Make(w.input(), bothKinds))
	w.all[777] = flip(w.all[777], epoch)
	one := w.Input
	one.Pods = w.all[777:778]
	whole := w.input()
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			Make(whole, bothKinds)
		}
	})
	b.Run("flips", func(b *testing.B) {
		for b.Loop() {
			if _, ok := MakeFlips(one, bothKinds); !ok {
				b.Fatal("it takes the whole plan")
			}
		}
	})
}
