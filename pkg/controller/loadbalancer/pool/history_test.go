package pool

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// step changes the world of an Allocator, and what it has to say afterwards.
type step struct {
	name string
	do   func(*Allocator)
	want map[string]string
	news []string
}

func run(t *testing.T, a *Allocator, steps []step) {
	t.Helper()
	for _, s := range steps {
		s.do(a)
		var news []string
		for _, k := range a.Settle() {
			news = append(news, k.Name)
		}
		got := map[string]string{}
		for name := range s.want {
			got[name] = line(t, a, name)
		}
		if diff := cmp.Diff(s.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
		if diff := cmp.Diff(s.news, news); diff != "" {
			t.Errorf("%s: news (-want +got):\n%s", s.name, diff)
		}
	}
}

func set(services ...*corev1.Service) func(*Allocator) {
	return func(a *Allocator) {
		for _, svc := range services {
			a.SetService(svc)
		}
	}
}

func gone(name string) func(*Allocator) {
	return func(a *Allocator) { a.DeleteService(Key{Namespace: "default", Name: name}) }
}

func TestAFreedAddressIsGivenAtOnce(t *testing.T) {
	a := settled(pools{poolOf("p", 1, "192.0.2.1-192.0.2.2")})
	run(t, a, []step{
		{
			"three want two", set(service("a", 1), service("b", 2), service("c", 3), service("d", 4, asks("192.0.2.1"))),
			map[string]string{"d": "192.0.2.1", "a": "192.0.2.2", "b": "PoolExhausted: no IPv4 address is free in LoadBalancerPool p"},
			[]string{"a", "b", "c", "d"},
		},
		{"one goes", gone("d"), map[string]string{"b": "192.0.2.1", "c": "PoolExhausted: no IPv4 address is free in LoadBalancerPool p"}, []string{"b"}},
		{
			"one is no load balancer any more",
			set(service("a", 1, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })),
			map[string]string{"c": "192.0.2.2"},
			[]string{"c"},
		},
		{
			"one is made again under the same name", set(service("c", 9, func(s *corev1.Service) { s.UID = "other" }), service("e", 8)),
			map[string]string{"e": "192.0.2.2", "c": "PoolExhausted: no IPv4 address is free in LoadBalancerPool p"},
			[]string{"c", "e"},
		},
		{"nothing", func(*Allocator) {}, map[string]string{}, nil},
	})
}

func TestPoolsNeverTakeBack(t *testing.T) {
	p := poolOf("p", 1, "192.0.2.1-192.0.2.4")
	a := settled(pools{p}, service("a", 1), service("b", 2))
	const kept = "KeptOutsidePools: 192.0.2.2 is in no LoadBalancerPool any more; it is kept until the Service gives it up"
	run(t, a, []step{
		{"shrunk", func(a *Allocator) { a.SetPools(pools{poolOf("p", 1, "192.0.2.1", "192.0.2.3")}, true) }, map[string]string{"a": "192.0.2.1", "b": "192.0.2.2 " + kept}, []string{"b"}},
		{"deleted", func(a *Allocator) { a.SetPools(nil, true) }, map[string]string{"b": "192.0.2.2 " + kept}, []string{"a"}},
		{"malformed", func(a *Allocator) { a.SetPools(pools{poolOf("p", 1, "192.0.2.1-192.0.2.4", "x")}, true) }, map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"}, []string{"a", "b"}},
		{"for others", func(a *Allocator) { a.SetPools(pools{forServices(p.DeepCopy(), "x")}, true) }, map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"}, nil},
		{"given up", set(service("b", 2, asks("192.0.2.9"))), map[string]string{"b": "192.0.2.2 AddressOutsidePools: 192.0.2.9 is in no LoadBalancerPool; it keeps 192.0.2.2 meanwhile"}, []string{"b"}},
		{"there is none of the kind", func(a *Allocator) { a.SetPools(nil, false) }, map[string]string{"a": "192.0.2.1 KeptOutsidePools: 192.0.2.1 is in no LoadBalancerPool any more; it is kept until the Service gives it up"}, []string{"a", "b"}},
	})
}

func TestWhatAServiceChangesItsMindAbout(t *testing.T) {
	a := settled(pools{poolOf("p", 1, "192.0.2.1-192.0.2.4", "2001:db8::1-2001:db8::4"), internal(poolOf("i", 2, "10.9.0.1")), poolOf("q", 3, "198.51.100.1")},
		service("a", 1), service("b", 2), service("c", 3, asks("198.51.100.1")))
	run(t, a, []step{
		{
			"an address that another one has", set(service("a", 1, asks("192.0.2.2"))),
			map[string]string{"a": "192.0.2.1 AddressTaken: 192.0.2.2 is taken by Service default/b, not shared with it; it keeps 192.0.2.1 meanwhile"},
			[]string{"a"},
		},
		{"which that one leaves", set(service("b", 2, asks("192.0.2.3"))), map[string]string{"a": "192.0.2.2", "b": "192.0.2.3"}, []string{"a", "b"}},
		{"another pool", set(service("a", 1, annotated(v1alpha1.AnnotationPool, "q"))), map[string]string{"a": "192.0.2.2 PoolExhausted: no IPv4 address is free in LoadBalancerPool q; it keeps 192.0.2.2 meanwhile"}, []string{"a"}},
		{"which is left", gone("c"), map[string]string{"a": "198.51.100.1"}, []string{"a"}},
		{"internal", set(service("a", 1, annotated(v1alpha1.AnnotationScope, "internal"))), map[string]string{"a": "10.9.0.1"}, []string{"a"}},
		{
			"internal, and there is no more: nobody outside may reach it", set(service("b", 2, annotated(v1alpha1.AnnotationScope, "internal"))),
			map[string]string{"b": "PoolExhausted: no IPv4 address is free in LoadBalancerPool i"}, []string{"b"},
		},
		{"both families", set(service("b", 2, dual(corev1.IPFamilyPolicyRequireDualStack))), map[string]string{"b": "192.0.2.1 2001:db8::1"}, []string{"b"}},
		{"one family again", set(service("b", 2)), map[string]string{"b": "192.0.2.1"}, []string{"b"}},
		{"nonsense", set(service("b", 2, asks("x"))), map[string]string{"b": `192.0.2.1 InvalidRequest: annotation signpost.dev/addresses: "x" is not an address; it keeps 192.0.2.1 meanwhile`}, []string{"b"}},
	})
}

// TestAfterARestart: what is in the status is all that there is to go by.
func TestAfterARestart(t *testing.T) {
	a := settled(pools{poolOf("p", 1, "192.0.2.1-192.0.2.9")},
		service("a", 1), service("twice", 3, has("192.0.2.1")), service("first", 2, has("192.0.2.1")),
		service("many", 4, has("192.0.2.5", "192.0.2.6")), service("outside", 5, has("198.51.100.1")),
		service("others", 6, class("example.com/lb"), has("192.0.2.2")), service("nonsense", 7, has("x")))
	run(t, a, []step{{
		"adopted", func(*Allocator) {},
		map[string]string{
			"a": "192.0.2.3", "first": "192.0.2.1", "twice": "192.0.2.4", "many": "192.0.2.5", "others": "not ours", "nonsense": "192.0.2.6",
			"outside": "198.51.100.1 KeptOutsidePools: 198.51.100.1 is in no LoadBalancerPool any more; it is kept until the Service gives it up",
		},
		nil,
	}})
}

// TestSharersPart: when the ports of two that share come to clash, the older one
// stays, whichever of them has changed.
func TestSharersPart(t *testing.T) {
	a := settled(pools{poolOf("p", 1, "192.0.2.1-192.0.2.9")},
		service("a", 1, shares("k")), service("b", 2, shares("k"), onPort(81)), service("c", 3, shares("k"), onPort(82)))
	run(t, a, []step{
		{"all share", func(*Allocator) {}, map[string]string{"a": "192.0.2.1", "b": "192.0.2.1", "c": "192.0.2.1"}, nil},
		{"a takes b's port", set(service("a", 1, shares("k"), onPort(81))), map[string]string{"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.1"}, []string{"b"}},
		{"c shares with nobody", set(service("c", 3)), map[string]string{"a": "192.0.2.1", "b": "192.0.2.2", "c": "192.0.2.3"}, []string{"c"}},
	})
}

func TestPoolStates(t *testing.T) {
	a := settled(pools{
		poolOf("p", 1, "192.0.2.0/30", "192.0.2.2-192.0.2.5", "2001:db8::/64"), poolOf("late", 2, "192.0.2.5-192.0.2.6"), poolOf("bad", 3, "x"),
	}, service("a", 1), service("b", 2, asks("192.0.2.5")), service("c", 3, has("192.0.2.6")))
	want := map[string]State{
		"p": {
			Ready: true, Reason: "Ready", Message: "Services get addresses of it",
			IPv4: &v1alpha1.AddressCount{Used: 2, Free: "3"}, IPv6: &v1alpha1.AddressCount{Used: 0, Free: "18446744073709551615"},
		},
		"late": {Reason: "Overlap", Message: "192.0.2.5 is in LoadBalancerPool p as well, which is older", IPv4: &v1alpha1.AddressCount{Used: 2, Free: "0"}},
		"bad":  {Reason: "Malformed", Message: `spec.addresses[0]: "x" is neither a CIDR, nor a range, nor an address`},
	}
	if diff := cmp.Diff(want, a.Pools()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
