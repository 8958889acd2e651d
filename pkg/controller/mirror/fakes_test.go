package mirror

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
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

var errServer = errors.New("the server is unwell")

// bench is a controller between a fake server and a cache that shows what was
// written there only after a while. It lives in a bubble of synctest, so that
// time costs nothing and nothing is left running unseen.
type bench struct {
	*testing.T
	// server is for the test's own changes; the controller's go through it, too.
	server     client.WithWatch
	cache      *fakeCache
	controller *Controller
	events     chan event

	mu      sync.Mutex
	made    int
	written int // slices that mirror
	fail    func() error
	lag     time.Duration
	mute    bool // the cache hears of nothing
	told    []string
}

type event struct {
	due     time.Time
	object  client.Object
	deleted bool
}

// fakeCache tells handlers of objects and lets them be read.
type fakeCache struct {
	*informertest.FakeInformers
	mu    sync.Mutex
	shown map[string]client.Object
}

func idOf(o client.Object, k types.NamespacedName) string { return fmt.Sprintf("%T %v", o, k) }

func (f *fakeCache) Get(_ context.Context, k client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch o := f.shown[idOf(into, k)].(type) {
	case *corev1.Service:
		o.DeepCopyInto(into.(*corev1.Service))
	case *corev1.Endpoints:
		o.DeepCopyInto(into.(*corev1.Endpoints))
	default:
		return apierrors.NewNotFound(schema.GroupResource{Resource: fmt.Sprintf("%T", into)}, k.Name)
	}
	return nil
}

// tell makes the cache know an object at once.
func (f *fakeCache) tell(t *testing.T, o client.Object, deleted bool) {
	informer, err := f.FakeInformerFor(t.Context(), o)
	if err != nil {
		t.Error(err)
		return
	}
	id := idOf(o, client.ObjectKeyFromObject(o))
	f.mu.Lock()
	was := f.shown[id]
	f.shown[id] = o
	if deleted {
		delete(f.shown, id)
	}
	f.mu.Unlock()
	switch {
	case deleted:
		informer.Delete(o)
	case was != nil:
		informer.Update(was, o)
	default:
		informer.Add(o)
	}
}

// introduce tells a controller what there is before it runs, as informers do
// before it works.
func (f *fakeCache) introduce(c *Controller) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.shown {
		switch o := o.(type) {
		case *corev1.Service:
			c.serviceChanged(nil, o, true)
		case *corev1.Endpoints:
			c.endpointsChanged(nil, o, true)
		case *discoveryv1.EndpointSlice:
			c.sliceChanged(nil, o, true)
		}
	}
}

func inBubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, events: make(chan event, 10000),
			cache: &fakeCache{FakeInformers: &informertest.FakeInformers{}, shown: map[string]client.Object{}}}
		b.server = interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme.Scheme).Build(), interceptor.Funcs{
			Create: b.create, Update: b.update, Delete: b.remove,
		})
		c, err := New(Options{
			Client: b.server, Shared: b.cache, Term: b.cache, MaxEndpointsPerSubset: 3, Concurrency: 2,
			Registerer: prometheus.NewRegistry(), Recorder: b, Log: slog.New(slog.DiscardHandler),
		})
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

// before takes the time of a write, counts it and says whether it fails.
func (b *bench) before(o client.Object) error {
	if _, ok := o.(*discoveryv1.EndpointSlice); !ok {
		return nil
	}
	time.Sleep(5 * time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		if err := b.fail(); err != nil {
			return err
		}
	}
	b.written++
	return nil
}

func (b *bench) create(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
	if err := b.before(o); err != nil {
		return err
	}
	b.mu.Lock()
	b.made++
	o.SetUID(types.UID(fmt.Sprint("made-", b.made)))
	b.mu.Unlock()
	return b.after(c.Create(ctx, o, opts...), o, false)
}

func (b *bench) update(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
	if err := b.before(o); err != nil {
		return err
	}
	return b.after(c.Update(ctx, o, opts...), o, false)
}

func (b *bench) remove(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
	if err := b.before(o); err != nil {
		return err
	}
	return b.after(c.Delete(ctx, o, opts...), o, true)
}

func (b *bench) after(err error, o client.Object, deleted bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && !b.mute {
		b.events <- event{time.Now().Add(b.lag), o.DeepCopyObject().(client.Object), deleted}
	}
	return err
}

// deliver shows the cache what was written, in its order.
func (b *bench) deliver() {
	for e := range b.events {
		time.Sleep(time.Until(e.due))
		b.cache.tell(b.T, e.object, e.deleted)
	}
}

func (b *bench) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// count says how many writes there were.
func (b *bench) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.written
}

// said returns the Events so far.
func (b *bench) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.told)
}

// must fails the test if one of its own changes failed.
func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
