package endpoints

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// writeTime is how long the fake server takes for a write.
const writeTime = 5 * time.Millisecond

// bench is a controller between a fake server and informers that show what was
// written only after a while. It lives in a bubble of synctest, so that time
// costs nothing and nothing is left running unseen.
type bench struct {
	*testing.T
	client.WithWatch
	informers  *informertest.FakeInformers
	controller *Controller

	mu     sync.Mutex
	made   int
	writes []string
	fail   func() error
	delay  time.Duration // of each write, on top of writeTime
	lag    time.Duration
	mute   bool // informers show nothing of what is written
	events chan event
	told   []string

	telling sync.Mutex
	shown   map[string]client.Object
}

type event struct {
	due     time.Time
	object  client.Object
	deleted bool
}

func inBubble(t *testing.T, change func(*Options), test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, informers: &informertest.FakeInformers{}, shown: map[string]client.Object{}, events: make(chan event, 10000)}
		b.WithWatch = interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme.Scheme).Build(), interceptor.Funcs{
			Create: b.create, Update: b.update, Delete: b.remove,
		})
		o := Options{
			Client: b, Shared: b.informers, Term: b.informers, Endpoints: true, EndpointSlices: true,
			MaxEndpointsPerSlice: 100, BatchPeriod: 0, Concurrency: 2,
			Registerer: prometheus.NewRegistry(), Recorder: b, Log: slog.New(slog.DiscardHandler),
		}
		if change != nil {
			change(&o)
		}
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		b.controller = c
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { b.deliver() })
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		test(b)
		cancel()
		synctest.Wait()
		close(b.events)
		wg.Wait()
	})
}

// Eventf makes bench a Recorder.
func (b *bench) Eventf(_ runtime.Object, _, reason, message string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, reason+": "+fmt.Sprintf(message, args...))
}

func (b *bench) before(verb string, o client.Object) error {
	b.mu.Lock()
	delay := writeTime + b.delay
	b.mu.Unlock()
	time.Sleep(delay)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail(); err != nil {
			return err
		}
	}
	b.writes = append(b.writes, fmt.Sprintf("%s %T", verb, o))
	return nil
}

func (b *bench) create(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
	if err := b.before("create", o); err != nil {
		return err
	}
	b.mu.Lock()
	b.made++
	o.SetUID(types.UID(fmt.Sprint("made-", b.made)))
	b.mu.Unlock()
	if err := c.Create(ctx, o, opts...); err != nil {
		return err
	}
	b.show(o, false)
	return nil
}

func (b *bench) update(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
	if err := b.before("update", o); err != nil {
		return err
	}
	if err := c.Update(ctx, o, opts...); err != nil {
		return err
	}
	b.show(o, false)
	return nil
}

func (b *bench) remove(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
	if err := b.before("delete", o); err != nil {
		return err
	}
	if err := c.Delete(ctx, o, opts...); err != nil {
		return err
	}
	b.show(o, true)
	return nil
}

func (b *bench) show(o client.Object, deleted bool) {
	if !b.mute {
		b.events <- event{time.Now().Add(b.lag), o.DeepCopyObject().(client.Object), deleted}
	}
}

// deliver shows the informers' handlers what was written, in its order.
func (b *bench) deliver() {
	for e := range b.events {
		time.Sleep(time.Until(e.due))
		b.tell(e.object, e.deleted)
	}
}

// tell makes the informers know an object at once.
func (b *bench) tell(o client.Object, deleted bool) {
	b.telling.Lock()
	defer b.telling.Unlock()
	informer, err := b.informers.FakeInformerFor(b.Context(), o)
	if err != nil {
		b.Error(err)
		return
	}
	id := fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName())
	was := b.shown[id]
	switch {
	case deleted:
		delete(b.shown, id)
		informer.Delete(o)
	case was != nil:
		b.shown[id] = o
		informer.Update(was, o)
	default:
		b.shown[id] = o
		informer.Add(o)
	}
}

func (b *bench) count(write string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, w := range b.writes {
		if w == write {
			n++
		}
	}
	return n
}

// total is how many writes there were.
func (b *bench) total() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.writes)
}

// syncs is how often the controller looked at a Service.
func (b *bench) syncs() uint64 {
	var m dto.Metric
	if err := b.controller.metrics.syncs.Write(&m); err != nil {
		b.Fatal(err)
	}
	return m.GetHistogram().GetSampleCount()
}

// said returns the Events so far.
func (b *bench) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.told)
}

func (b *bench) setDelay(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.delay = d
}

func (b *bench) setFail(f func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = f
}

var errServer = errors.New("the server is unwell")

// start makes a Service with pods that are ready.
func (b *bench) start(pods int) {
	b.tell(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, false)
	b.tell(benchService(), false)
	for i := range pods {
		b.tell(benchPod(i, 1, true), false)
	}
}

func benchService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc", UID: "svc-uid"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Selector: map[string]string{"app": "a"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
}

func benchPod(i, version int, ready bool) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	ip := fmt.Sprint("10.0.0.", i+1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("pod-", i), UID: types.UID(fmt.Sprint("pod-uid-", i)),
			ResourceVersion: fmt.Sprint(version), Labels: map[string]string{"app": "a"}},
		Spec: corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	}
}

// onServer returns the readiness of each address that the server has in slices.
func (b *bench) onServer() map[string]bool {
	b.Helper()
	var list discoveryv1.EndpointSliceList
	if err := b.List(b.Context(), &list); err != nil {
		b.Fatal(err)
	}
	out := map[string]bool{}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			out[e.Addresses[0]] = *e.Conditions.Ready
		}
	}
	return out
}
