package watchcache

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/model"
)

// TestContainedClaimsNothingThatIsNot has slices written, watched, listed anew,
// noted, published and programmed in random order. What is claimed of the
// Snapshot that is in force must be in it; and when all is done, all is claimed.
func TestContainedClaimsNothingThatIsNot(t *testing.T) {
	claims, lists := 0, 0
	for seed := range uint64(200) {
		s := newStage(t, rand.New(rand.NewPCG(seed, 7)))
		for range 300 {
			s.act()
			claims += s.check(seed)
		}
		s.finish()
		s.check(seed)
		if got := s.Contained(s.inForce.Generation); got != s.version {
			t.Fatalf("seed %d: version %d is claimed when all is done, want %d", seed, got, s.version)
		}
		lists += s.lists
	}
	if claims < 10000 || lists < 1000 {
		t.Errorf("%d claims and %d lists prove little", claims, lists)
	}
	t.Logf("200 lives: %d claims checked, %d lists", claims, lists)
}

const stageSlices = 6

// stage is a Cache between a server that is a list of writes and a proxy that is
// a pointer to a Snapshot.
type stage struct {
	*Cache
	t       *testing.T
	rng     *rand.Rand
	store   toolscache.Store
	inForce *model.Snapshot

	version uint64
	writes  []*discoveryv1.EndpointSlice // of the server, in order
	seen    uint64                       // the version up to which the watch has told
	queue   [][2]*discoveryv1.EndpointSlice

	listing, listed bool
	list            []any
	listVersion     uint64
	lists           int
}

func newStage(t *testing.T, rng *rand.Rand) *stage {
	s := &stage{t: t, rng: rng, store: toolscache.NewStore(toolscache.MetaNamespaceKeyFunc)}
	s.Cache = &Cache{
		opts:   Options{NodeName: "n", Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()},
		shared: &storeCache{store: s.store}, noted: newNotebook(),
	}
	s.metrics = newMetrics(s.opts.Registerer, func() *model.Snapshot { return s.latest.Load() })
	s.relist.ended, s.relist.store = s.noted.wake, s.store
	s.relist.begin()
	s.listing = true
	for i := range 3 {
		s.noted.service(model.Name{Namespace: "ns", Name: fmt.Sprint("svc-", i)})
	}
	for i := range stageSlices {
		s.write(i, true)
	}
	s.endList()
	s.applyList()
	for len(s.queue) > 0 {
		s.hear()
	}
	s.publish()
	s.inForce = s.Snapshot()
	return s
}

func (s *stage) act() {
	switch n := s.rng.IntN(100); {
	case n < 25:
		s.write(s.rng.IntN(stageSlices), s.rng.IntN(4) > 0)
	case n < 28 && !s.listing && !s.listed:
		s.listing = true
		s.lists++
		s.relist.begin()
	case n < 40:
		s.endList()
	case n < 50:
		s.applyList()
	case n < 65:
		s.tell()
	case n < 80:
		s.hear()
	case n < 92:
		s.publish()
	default:
		s.inForce = s.Snapshot()
	}
}

// write is one at the server; if it is not visible, only a label changes.
func (s *stage) write(i int, visible bool) {
	s.version++
	text := strconv.FormatUint(s.version, 10)
	content := s.version
	if !visible {
		content = s.content(i, s.version)
	}
	addr := netip.AddrFrom4([4]byte{10, byte(i), byte(content >> 8), byte(content)})
	s.writes = append(s.writes, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("slice-", i), ResourceVersion: text, Labels: map[string]string{
			discoveryv1.LabelServiceName: fmt.Sprint("svc-", i%3), "version": text}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr.String()}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(80)), Protocol: new(corev1.ProtocolTCP)}},
	})
}

// content returns the version of the last visible write of a slice up to a version.
func (s *stage) content(i int, upTo uint64) uint64 {
	name := fmt.Sprint("slice-", i)
	for _, w := range slices.Backward(s.writes[:min(upTo, uint64(len(s.writes)))]) { // the n-th write has version n
		if w.Name == name {
			a := netip.MustParseAddr(w.Endpoints[0].Addresses[0]).As4()
			return uint64(a[2])<<8 | uint64(a[3])
		}
	}
	return 0
}

// tell has the watch deliver one write to the store.
func (s *stage) tell() {
	if s.listing || s.listed {
		return
	}
	if s.seen < s.version {
		s.put(s.writes[s.seen])
		s.seen++
	}
}

func (s *stage) put(w *discoveryv1.EndpointSlice) {
	old, exists, _ := s.store.Get(w)
	if err := s.store.Update(w); err != nil {
		s.t.Fatal(err)
	}
	s.enqueue(old, exists, w)
}

func (s *stage) enqueue(old any, exists bool, w *discoveryv1.EndpointSlice) {
	event := [2]*discoveryv1.EndpointSlice{nil, w}
	if exists {
		event[0] = old.(*discoveryv1.EndpointSlice)
	}
	if !exists || event[0].ResourceVersion != w.ResourceVersion {
		s.queue = append(s.queue, event)
	}
}

func (s *stage) endList() {
	if !s.listing {
		return
	}
	s.listing, s.listed = false, true
	newest := map[string]*discoveryv1.EndpointSlice{}
	for _, w := range s.writes {
		newest[w.Name] = w
	}
	s.list, s.listVersion = nil, s.version
	for _, w := range newest {
		s.list = append(s.list, w)
	}
	s.relist.end(s.version)
}

// applyList has the informer change over to the list, as a whole, and then tell of
// the differences in any order.
func (s *stage) applyList() {
	if !s.listed {
		return
	}
	s.listed, s.seen = false, s.listVersion
	s.rng.Shuffle(len(s.list), func(i, j int) { s.list[i], s.list[j] = s.list[j], s.list[i] })
	was := map[string]any{}
	for _, o := range s.store.List() {
		was[o.(*discoveryv1.EndpointSlice).Name] = o
	}
	if err := s.store.Replace(s.list, strconv.FormatUint(s.listVersion, 10)); err != nil {
		s.t.Fatal(err)
	}
	for _, o := range s.list {
		w := o.(*discoveryv1.EndpointSlice)
		old, exists := was[w.Name]
		s.enqueue(old, exists, w)
	}
}

// hear has the handler take one event.
func (s *stage) hear() {
	if len(s.queue) == 0 {
		return
	}
	e := s.queue[0]
	s.queue = s.queue[1:]
	if e[0] == nil {
		s.noteSlice(nil, e[1])
	} else {
		s.noteSlice(e[0], e[1])
	}
}

func (s *stage) publish() {
	if err := s.Cache.publish(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) finish() {
	s.endList()
	s.applyList()
	for s.seen < s.version {
		s.tell()
	}
	for len(s.queue) > 0 {
		s.hear()
	}
	s.publish()
	s.inForce = s.Snapshot()
}

// check holds the claim about the Snapshot in force against the server's writes.
func (s *stage) check(seed uint64) (claims int) {
	claimed := s.Contained(s.inForce.Generation)
	if claimed == 0 {
		return 0
	}
	for i := range stageSlices {
		has := uint64(0)
		svc := s.inForce.Services.Get(model.Name{Namespace: "ns", Name: fmt.Sprint("svc-", i%3)})
		for _, g := range svc.Groups {
			for _, e := range g.Endpoints {
				if a := e.Addr.As4(); int(a[1]) == i {
					has = max(has, uint64(a[2])<<8|uint64(a[3]))
				}
			}
		}
		if want := s.content(i, claimed); has < want {
			s.t.Fatalf("seed %d: version %d is claimed, which has slice-%d as of %d, but it is as of %d", seed, claimed, i, want, has)
		}
	}
	return 1
}

// storeCache reads EndpointSlices from a store, and knows three Services.
type storeCache struct {
	cache.Cache
	store toolscache.Store
}

func (c *storeCache) Get(_ context.Context, k client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	svc, ok := o.(*corev1.Service)
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{}, k.Name)
	}
	svc.Namespace, svc.Name = k.Namespace, k.Name
	svc.Spec = corev1.ServiceSpec{ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}
	return nil
}

func (c *storeCache) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	out := list.(*discoveryv1.EndpointSliceList)
	for _, x := range c.store.List() {
		s := x.(*discoveryv1.EndpointSlice)
		if o.FieldSelector == nil || o.FieldSelector.String() == ownerIndex+"="+s.Labels[discoveryv1.LabelServiceName] {
			out.Items = append(out.Items, *s)
		}
	}
	return nil
}

// TestContainedIsBounded: nobody asks for long, and then less may be claimed than
// could be, but not more, and what is in force is still known.
func TestContainedIsBounded(t *testing.T) {
	var c contained
	for g := range uint64(10 * maxRungs) {
		c.climb(g+1, 100+g)
	}
	if n := len(c.rungs); n > maxRungs {
		t.Errorf("%d rungs", n)
	}
	var got []uint64
	for _, g := range []uint64{0, 1, 5000, 10 * maxRungs, 10*maxRungs + 1} {
		v := c.at(g)
		if g > 0 && v > 99+g {
			t.Errorf("version %d of generation %d", v, g)
		}
		got = append(got, v)
	}
	if last := 99 + uint64(10*maxRungs); !slices.Equal(got, []uint64{0, 100, 100, last, last}) {
		t.Errorf("versions %v", got)
	}
}

// TestContainedFalls: a server that was restored has lower versions.
func TestContainedFalls(t *testing.T) {
	var c contained
	c.climb(1, 100)
	c.climb(2, 200)
	c.fall(3, 50)
	c.climb(3, 50)
	c.climb(4, 51)
	if got := []uint64{c.at(2), c.at(3), c.at(4)}; !slices.Equal(got, []uint64{0, 50, 51}) {
		t.Errorf("versions %v, want 0, 50, 51", got)
	}
}
