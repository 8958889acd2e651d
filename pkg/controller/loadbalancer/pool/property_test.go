package pool

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// world is all that an Allocator is told of, and makes random changes to it.
type world struct {
	*rand.Rand
	pools      pools
	installed  bool
	namespaces map[string]map[string]string
	services   map[Key]*corev1.Service
	made       int
}

func newWorld(seed uint64) *world {
	return &world{Rand: rand.New(rand.NewPCG(seed, 1)), installed: true, namespaces: map[string]map[string]string{}, services: map[Key]*corev1.Service{}}
}

func oneOf[T any](w *world, of ...T) T { return of[w.IntN(len(of))] }

// change makes one change, and returns what tells an Allocator of it.
func (w *world) change() func(*Allocator) {
	switch w.IntN(12) {
	case 0:
		w.changePools()
		in, installed := w.pools, w.installed
		return func(a *Allocator) { a.SetPools(in, installed) }
	case 1:
		name, labels := oneOf(w, "x", "y"), map[string]string{"for": oneOf(w, "x", "y")}
		w.namespaces[name] = labels
		return func(a *Allocator) { a.SetNamespace(name, labels) }
	case 2, 3:
		key := w.key()
		delete(w.services, key)
		return func(a *Allocator) { a.DeleteService(key) }
	default:
		svc := w.service(w.key())
		return func(a *Allocator) { a.SetService(svc) }
	}
}

func (w *world) key() Key {
	return Key{Namespace: oneOf(w, "x", "y"), Name: fmt.Sprint("s", w.IntN(6))}
}

func (w *world) changePools() {
	w.pools, w.installed = nil, w.IntN(10) > 0
	for i := range w.IntN(4) {
		p := poolOf(fmt.Sprint("p", i), w.IntN(3), oneOf(w, "192.0.2.1-192.0.2.3", "192.0.2.4-192.0.2.5", "192.0.2.8/30", "x"))
		if w.IntN(2) == 0 {
			p.Spec.Addresses = append(p.Spec.Addresses, oneOf(w, "2001:db8::1-2001:db8::3", "2001:db8::4"))
		}
		p.Spec.Scope = oneOf(w, "", v1alpha1.ScopePublic, v1alpha1.ScopeInternal)
		p.Spec.AutoAssign = oneOf(w, nil, new(true), new(false))
		switch w.IntN(4) {
		case 0:
			forServices(p, oneOf(w, "x", "y"))
		case 1:
			p.Spec.NamespaceSelector = forServices(poolOf("", 0), oneOf(w, "x", "y")).Spec.ServiceSelector
		}
		w.pools = append(w.pools, p)
	}
}

// service makes a Service or changes one; what it has in its status stays.
func (w *world) service(key Key) *corev1.Service {
	svc := service(key.Name, w.IntN(4), onPort(oneOf[int32](w, 80, 81)))
	if was := w.services[key]; was != nil && w.IntN(5) > 0 {
		svc.UID, svc.CreationTimestamp, svc.Status = was.UID, was.CreationTimestamp, was.Status
	} else {
		w.made++
		svc.UID = types.UID(fmt.Sprint(w.made))
	}
	svc.Namespace, svc.Labels = key.Namespace, map[string]string{"for": oneOf(w, "x", "y")}
	options := []option{
		func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP },
		asks(oneOf(w, "192.0.2.1", "192.0.2.2", "192.0.2.9", "2001:db8::1", "198.51.100.1", "x")),
		annotated(v1alpha1.AnnotationPool, oneOf(w, "p0", "p1,p2", "none")),
		annotated(v1alpha1.AnnotationScope, oneOf(w, "internal", "public", "x")),
		shares(oneOf(w, "k", "l")), shares(oneOf(w, "k", "l")),
		local(oneOf(w, "x", "y")),
		dual(corev1.IPFamilyPolicyPreferDualStack), dual(corev1.IPFamilyPolicyRequireDualStack),
		class(oneOf(w, "example.com/lb", v1alpha1.LoadBalancerClass)),
	}
	for range w.IntN(3) {
		oneOf(w, options...)(svc)
	}
	if w.IntN(10) == 0 {
		oneOf(w, has, served)(oneOf(w, "192.0.2.1", "192.0.2.9", "198.51.100.1", "2001:db8::1", "x"))(svc)
	}
	w.services[key] = svc
	return svc
}

// write puts what was decided into the status of the Services, as the shell does.
func (w *world) write(a *Allocator) {
	for key, svc := range w.services {
		if v, ok := a.Verdict(key); ok && v.Ours {
			svc = svc.DeepCopy()
			var texts []string
			for _, x := range v.Addresses {
				texts = append(texts, x.String())
			}
			has(texts...)(svc)
			w.services[key] = svc
		}
	}
}

// tellAll tells a new Allocator of everything, in a random order.
func (w *world) tellAll() *Allocator {
	a := New(true)
	tell := []func(){func() { a.SetPools(w.pools, w.installed) }}
	for name, labels := range w.namespaces {
		tell = append(tell, func() { a.SetNamespace(name, labels) })
	}
	for _, svc := range w.services {
		tell = append(tell, func() { a.SetService(svc) })
	}
	w.Shuffle(len(tell), func(i, j int) { tell[i], tell[j] = tell[j], tell[i] })
	for _, do := range tell {
		do()
	}
	a.Settle()
	return a
}

func verdicts(a *Allocator) map[Key]Verdict {
	out := map[Key]Verdict{}
	for key := range a.services {
		if v, ok := a.Verdict(key); ok {
			out[key] = v
		}
	}
	return out
}

var addresses = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// TestIncrementalEqualsFull: an Allocator that was told of thousands of changes
// says the same as one that is told of the world as it is, and that one has
// nothing to add; whatever the order, and however many changes come at once.
func TestIncrementalEqualsFull(t *testing.T) {
	for seed := range uint64(60) {
		w := newWorld(seed)
		a := New(true)
		a.SetPools(nil, true)
		for round := range 60 {
			var tell []func(*Allocator)
			for range 1 + w.IntN(6) {
				tell = append(tell, w.change())
			}
			for _, do := range tell {
				do(a)
			}
			before := verdicts(a)
			news := a.Settle()
			checkNews(t, before, verdicts(a), news)
			w.write(a)
			w.check(t, a)
			if diff := cmp.Diff(verdicts(w.tellAll()), verdicts(a), addresses); diff != "" {
				t.Fatalf("seed %d, round %d (-full +incremental):\n%s", seed, round, diff)
			}
			if again := a.Settle(); len(again) > 0 {
				t.Fatalf("seed %d, round %d: settling again changes %v", seed, round, again)
			}
		}
	}
}

// TestOrderDoesNotMatter: what is told before one Settle may come in any order.
func TestOrderDoesNotMatter(t *testing.T) {
	for seed := range uint64(300) {
		w := newWorld(seed)
		for range 60 {
			w.change()
		}
		first := verdicts(w.tellAll())
		for range 5 {
			if diff := cmp.Diff(first, verdicts(w.tellAll()), addresses); diff != "" {
				t.Fatalf("seed %d (-one order +another):\n%s", seed, diff)
			}
		}
	}
}

func checkNews(t *testing.T, before, after map[Key]Verdict, news []Key) {
	t.Helper()
	for key, v := range after {
		was := before[key]
		if changed := !v.equal(&was); changed != slices.Contains(news, key) {
			t.Fatalf("%v: %+v after %+v, news %v", key, v, was, news)
		}
	}
}

// check holds what must be so of any world: no address twice unless shared, a
// reason for each Service that is ours, counts that are right.
func (w *world) check(t *testing.T, a *Allocator) {
	t.Helper()
	owners := map[netip.Addr][]*tenant{}
	for key, svc := range w.services {
		v, ok := a.Verdict(key)
		if is := svc.Spec.Type == corev1.ServiceTypeLoadBalancer; is != ok {
			t.Fatalf("%v: load balancer %v, verdict %v", key, is, ok)
		}
		if !ok || !v.Ours {
			continue
		}
		if v.Reason == "" || v.Message == "" || strings.Contains(v.Message, "\n") {
			t.Fatalf("%v has no reason in one line: %+v", key, v)
		}
		if v.Satisfied && len(v.Addresses) == 0 || !v.Satisfied && (v.Reason == v1alpha1.ReasonAssigned || v.Reason == v1alpha1.ReasonKept) {
			t.Fatalf("%v: the reason does not fit: %+v", key, v)
		}
		for _, x := range v.Addresses {
			owners[x] = append(owners[x], a.services[key])
		}
	}
	for x, all := range owners {
		for i, one := range all {
			for _, other := range all[:i] {
				if one.clash(&other.sharing) != "" {
					t.Fatalf("%v is given to %v and %v", x, one.key, other.key)
				}
			}
		}
	}
	w.checkCounts(t, a)
}

func (w *world) checkCounts(t *testing.T, a *Allocator) {
	t.Helper()
	states := a.Pools()
	for _, p := range w.pools {
		ranges, _ := p.Spec.Ranges()
		var four v1alpha1.AddressCount
		free := 0
		for _, r := range ranges {
			for x := r.First; r.First.Is4() && r.Contains(x); x = x.Next() {
				if len(a.holders[x]) > 0 {
					four.Used++
				} else if states[p.Name].Ready {
					free++
				}
			}
		}
		four.Free = fmt.Sprint(free)
		if got := states[p.Name].IPv4; got != nil && *got != four {
			t.Fatalf("%s counts %+v, want %+v", p.Name, *got, four)
		}
	}
}

func BenchmarkThousandServices(b *testing.B) {
	var services []*corev1.Service
	for i := range 1000 {
		services = append(services, service(fmt.Sprint("s", i), i))
	}
	pool := pools{poolOf("p", 1, "10.0.0.1-10.0.3.232")}
	for b.Loop() {
		a := settled(pool, services...)
		if n := len(a.Pending()); n > 0 {
			b.Fatal(a.Pending())
		}
	}
}

// BenchmarkOneChange is one Service that comes and goes beside 1,000 others.
func BenchmarkOneChange(b *testing.B) {
	a := settled(pools{poolOf("p", 1, "10.0.0.1-10.0.3.233")})
	for i := range 1000 {
		a.SetService(service(fmt.Sprint("s", i), i))
	}
	a.Settle()
	one := service("one", 5000)
	for b.Loop() {
		a.SetService(one)
		a.Settle()
		a.DeleteService(Key{Namespace: "default", Name: "one"})
		a.Settle()
	}
}
