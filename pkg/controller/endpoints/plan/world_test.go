package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

var bothKinds = Options{Endpoints: true, EndpointSlices: true, MaxEndpointsPerSlice: 100}

// world is a Service's surroundings, to which plans can be applied as the API
// server would apply them.
type world struct {
	Input
	all   []*corev1.Pod // of the namespace
	made  int
	count map[Verb]int
}

func newWorld(svc *corev1.Service) *world {
	return &world{Input: Input{Service: svc, Zones: map[string]string{}}, count: map[Verb]int{}}
}

func service(change ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: "svc", Namespace: "ns", UID: "svc-uid", ResourceVersion: "1",
			Labels:            map[string]string{"team": "blue"},
			CreationTimestamp: metav1.NewTime(epoch),
		},
		Spec: corev1.ServiceSpec{
			ClusterIP:  "10.96.0.10",
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Selector:   map[string]string{"app": "a"},
			Ports:      []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	for _, f := range change {
		f(svc)
	}
	return svc
}

// pod returns a pod that is ready and has an IPv4 address.
func pod(n int, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("pod-%03d", n), Namespace: "ns", UID: types.UID(fmt.Sprint("uid-", n)),
			Labels:            map[string]string{"app": "a"},
			CreationTimestamp: metav1.NewTime(epoch.Add(time.Minute)),
		},
		Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{
			Phase:  corev1.PodRunning,
			PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.0.%d.%d", n/250, n%250+1)}},
		},
	}
	p.Status.PodIP = p.Status.PodIPs[0].IP
	setReady(p, true, epoch.Add(2*time.Minute))
	for _, f := range change {
		f(p)
	}
	return p
}

func setReady(p *corev1.Pod, ready bool, at time.Time) {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(at)}}
}

func notReady(p *corev1.Pod) { setReady(p, false, epoch.Add(3*time.Minute)) }

func terminating(p *corev1.Pod) {
	p.DeletionTimestamp = new(metav1.NewTime(epoch.Add(10 * time.Minute)))
	p.DeletionGracePeriodSeconds = new(int64(30))
}

func (w *world) pods(pods ...*corev1.Pod) *world {
	w.all = pods
	return w
}

func (w *world) nodes(zones map[string]string) *world {
	w.Zones = zones
	return w
}

// input is what the shell would hand to Make.
func (w *world) input() Input {
	in := w.Input
	in.Pods = nil
	if len(in.Service.Spec.Selector) > 0 {
		for _, p := range w.all {
			if labels.SelectorFromSet(in.Service.Spec.Selector).Matches(labels.Set(p.Labels)) {
				in.Pods = append(in.Pods, p)
			}
		}
	}
	return in
}

// sync plans, applies the plan, and fails the test if planning again writes
// anything, or if planning changed its input.
func (w *world) sync(t *testing.T, opt Options) Plan {
	t.Helper()
	before := describe(w.input())
	p := Make(w.input(), opt)
	if after := describe(w.input()); before != after {
		t.Fatalf("Make changed its input:\n%s", cmp.Diff(before, after))
	}
	w.apply(t, p)
	if again := Make(w.input(), opt); len(again.Writes) != 0 {
		t.Fatalf("planning again after applying writes %d objects, first: %s %+v", len(again.Writes), again.Writes[0].Verb, again.Writes[0].Object)
	}
	return p
}

func (w *world) apply(tb testing.TB, p Plan) {
	tb.Helper()
	for i, write := range p.Writes {
		if i > 0 && write.Phase < p.Writes[i-1].Phase {
			tb.Fatalf("write %d of phase %d comes after phase %d", i, write.Phase, p.Writes[i-1].Phase)
		}
		w.applyOne(tb, write)
	}
}

func (w *world) applyOne(tb testing.TB, write Write) {
	tb.Helper()
	w.made++
	w.count[write.Verb]++
	o := write.Object.DeepCopyObject().(Object)
	if write.Verb == Create {
		if o.GetName() == "" {
			o.SetName(o.GetGenerateName() + fmt.Sprintf("%05d", w.made))
		}
		o.SetUID(types.UID(fmt.Sprint("made-", w.made)))
	}
	o.SetResourceVersion(strconv.Itoa(1000 + w.made))
	switch o := o.(type) {
	case *discoveryv1.EndpointSlice:
		checkSlice(tb, o)
		i := slices.IndexFunc(w.Slices, func(s *discoveryv1.EndpointSlice) bool { return s.Name == o.Name })
		switch {
		case write.Verb == Create && i < 0:
			w.Slices = append(w.Slices, o)
		case write.Verb == Update && i >= 0 && w.Slices[i].AddressType == o.AddressType:
			w.Slices[i] = o
		case write.Verb == Delete && i >= 0:
			w.Slices = slices.Delete(w.Slices, i, i+1)
		default:
			tb.Fatalf("cannot %s slice %s", write.Verb, o.Name)
		}
	case *corev1.Endpoints:
		if (write.Verb == Create) != (w.Endpoints == nil) {
			tb.Fatalf("cannot %s Endpoints, which are %v", write.Verb, w.Endpoints)
		}
		w.Endpoints = o
		if write.Verb == Delete {
			w.Endpoints = nil
		}
	}
}

func checkSlice(tb testing.TB, s *discoveryv1.EndpointSlice) {
	tb.Helper()
	if s.Ports == nil || s.Endpoints == nil {
		tb.Fatalf("slice %s has no list of ports or of endpoints: %+v", s.Name, s)
	}
}

func (w *world) shuffle(rng *rand.Rand) {
	rng.Shuffle(len(w.all), func(i, j int) { w.all[i], w.all[j] = w.all[j], w.all[i] })
	rng.Shuffle(len(w.Slices), func(i, j int) { w.Slices[i], w.Slices[j] = w.Slices[j], w.Slices[i] })
}
