package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
}

func endpoints(name string, ips ...string) *corev1.Endpoints {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	if len(ips) > 0 {
		e.Subsets = []corev1.EndpointSubset{{Ports: []corev1.EndpointPort{{Port: 80, Protocol: corev1.ProtocolTCP}}}}
	}
	for _, ip := range ips {
		e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{IP: ip})
	}
	return e
}

// start makes a Service whose Endpoints has these addresses.
func (b *bench) start(name string, ips ...string) {
	b.Helper()
	b.must(b.server.Create(b.Context(), service(name)))
	b.must(b.server.Create(b.Context(), endpoints(name, ips...)))
}

// published returns the addresses that the server has in slices of a Service.
func (b *bench) published(name string) []string {
	b.Helper()
	var list discoveryv1.EndpointSliceList
	b.must(b.server.List(b.Context(), &list, client.MatchingLabels{discoveryv1.LabelServiceName: name, discoveryv1.LabelManagedBy: "endpointslicemirroring-controller.k8s.io"}))
	out := []string{}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			out = append(out, e.Addresses[0])
		}
	}
	slices.Sort(out)
	return out
}

func (b *bench) want(name string, ips ...string) {
	b.Helper()
	if diff := cmp.Diff(append([]string{}, ips...), b.published(name)); diff != "" {
		b.Errorf("%s publishes (-want +got):\n%s", name, diff)
	}
}

func (b *bench) setAddresses(name string, ips ...string) {
	b.Helper()
	e := &corev1.Endpoints{}
	b.must(b.server.Get(b.Context(), client.ObjectKeyFromObject(endpoints(name)), e))
	e.Subsets = endpoints(name, ips...).Subsets
	b.must(b.server.Update(b.Context(), e))
}

func (b *bench) setSelector(name string, selector map[string]string) {
	b.Helper()
	svc := &corev1.Service{}
	b.must(b.server.Get(b.Context(), client.ObjectKeyFromObject(service(name)), svc))
	svc.Spec.Selector = selector
	b.must(b.server.Update(b.Context(), svc))
}

// TestInformersThatLag: things change much faster than the informers show what
// the controller writes. It must not take its own writes for missing, nor for
// somebody else's.
func TestInformersThatLag(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.lag = 500 * time.Millisecond
		rng := rand.New(rand.NewPCG(1, 2))
		b.start("a", "192.0.2.1")
		for range 300 {
			ips := []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"}[:1+rng.IntN(3)]
			switch rng.IntN(5) {
			case 0:
				b.setSelector("a", map[string]string{"x": "y"})
			case 1:
				b.setSelector("a", nil)
			default:
				b.setAddresses("a", ips...)
			}
			time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
		}
		b.setSelector("a", nil)
		b.setAddresses("a", "192.0.2.1", "192.0.2.2", "2001:db8::1")
		time.Sleep(b.lag + 50*time.Millisecond)
		b.want("a", "192.0.2.1", "192.0.2.2", "2001:db8::1")
		writes := b.count()
		time.Sleep(time.Minute)
		if n := b.count(); n != writes || writes < 50 {
			t.Errorf("%d writes, and %d after a minute in which nothing happened", writes, n)
		}
		for _, verb := range []string{"create", "update", "delete"} {
			if n := testutil.ToFloat64(b.controller.metrics.writes.WithLabelValues(verb, resultBehind)); n != 0 {
				t.Errorf("%v times the %s was refused as planned from an old state", n, verb)
			}
		}
	})
}

// TestNoKeyIsGivenUp: an hour of errors, and then it works. Others are not kept
// from working.
func TestNoKeyIsGivenUp(t *testing.T) {
	inBubble(t, func(b *bench) {
		tries := 0
		b.set(func() { b.fail = func() error { tries++; return errServer } })
		b.start("a", "192.0.2.1")
		time.Sleep(time.Hour)
		b.set(func() {
			if tries < 3600/30 {
				t.Errorf("only %d tries in an hour", tries)
			}
			b.fail = nil
		})
		b.start("b", "192.0.2.2")
		time.Sleep(time.Second)
		b.want("b", "192.0.2.2")
		time.Sleep(maxBackoff)
		b.want("a", "192.0.2.1")
		if said := b.said(); len(said) == 0 || !strings.HasPrefix(said[0], "FailedToUpdateEndpointSlices: ") || !strings.Contains(said[0], errServer.Error()) {
			t.Errorf("events are %q", said)
		}
	})
}

// TestLosses: what is not mirrored is told once, in upstream's words.
func TestLosses(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.start("a", "nonsense", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5")
		time.Sleep(time.Second)
		b.want("a", "192.0.2.1", "192.0.2.2", "192.0.2.3")
		b.controller.queue.Add(ledger.Key{Namespace: "ns", Name: "a"})
		time.Sleep(time.Second)
		// "nonsense" sorts last: it is skipped before anybody sees what it is.
		want := []string{"TooManyAddressesToMirror: A max of 3 addresses can be mirrored to EndpointSlices per Endpoints subset. 3 addresses were skipped"}
		if diff := cmp.Diff(want, b.said()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		b.setAddresses("a", "192.0.2.1", "nonsense")
		time.Sleep(time.Second)
		want = append(want, "InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices")
		if diff := cmp.Diff(want, b.said()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestACacheThatHasNotHeardYet: a Service and an Endpoints that are missing only
// in the cache take no traffic away.
func TestACacheThatHasNotHeardYet(t *testing.T) {
	for _, o := range []client.Object{service("a"), endpoints("a")} {
		t.Run(fmt.Sprintf("%T", o), func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.start("a", "192.0.2.1")
				time.Sleep(time.Second)
				live := o.DeepCopyObject().(client.Object)
				b.must(b.server.Get(b.Context(), client.ObjectKeyFromObject(o), live))
				b.cache.tell(b.T, live, true)
				time.Sleep(time.Minute)
				b.want("a", "192.0.2.1")
				b.must(b.server.Delete(b.Context(), live))
				time.Sleep(time.Second)
				b.want("a")
			})
		})
	}
}

// TestOthersMeddle: what others do to the slices is repaired.
func TestOthersMeddle(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.start("a", "192.0.2.1", "192.0.2.2")
		time.Sleep(time.Second)
		first := func() *discoveryv1.EndpointSlice {
			var list discoveryv1.EndpointSliceList
			b.must(b.server.List(b.Context(), &list, client.MatchingLabels{discoveryv1.LabelManagedBy: "endpointslicemirroring-controller.k8s.io"}))
			return &list.Items[0]
		}
		s := first()
		s.Endpoints = s.Endpoints[:1]
		b.must(b.server.Update(b.Context(), s))
		time.Sleep(time.Second)
		b.want("a", "192.0.2.1", "192.0.2.2")
		b.must(b.server.Delete(b.Context(), first()))
		time.Sleep(time.Second)
		b.want("a", "192.0.2.1", "192.0.2.2")
		s = first()
		s.Labels[discoveryv1.LabelManagedBy] = "me"
		b.must(b.server.Update(b.Context(), s))
		time.Sleep(time.Second)
		b.want("a", "192.0.2.1", "192.0.2.2")
		b.must(b.server.Get(b.Context(), client.ObjectKeyFromObject(s), s))
		if s.Labels[discoveryv1.LabelManagedBy] != "me" {
			t.Error("the slice that somebody took was touched")
		}
		s = first()
		s.Labels[discoveryv1.LabelServiceName] = "other"
		b.must(b.server.Update(b.Context(), s))
		time.Sleep(time.Second)
		b.want("a", "192.0.2.1", "192.0.2.2")
		b.want("other")
	})
}

// TestAWriteThatNoInformerShows is found to be undone.
func TestAWriteThatNoInformerShows(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.start("a")
		time.Sleep(time.Second)
		b.set(func() { b.mute = true })
		e := endpoints("a", "192.0.2.1")
		b.must(b.server.Get(b.Context(), client.ObjectKeyFromObject(e), e))
		e.Subsets = endpoints("a", "192.0.2.1").Subsets
		b.must(b.server.Update(b.Context(), e))
		b.cache.tell(b.T, e, false)
		time.Sleep(time.Second)
		b.want("a", "192.0.2.1")
		b.must(b.server.DeleteAllOf(b.Context(), &discoveryv1.EndpointSlice{}, client.InNamespace("ns")))
		b.want("a")
		time.Sleep(ledger.OverdueAfter + 2*ledger.SweepPeriod)
		b.want("a", "192.0.2.1")
	})
}

// TestTerms: the next term writes nothing, and goes on counting.
func TestTerms(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.start("a", "192.0.2.1", "2001:db8::1")
		time.Sleep(time.Second)
		writes := b.count()
		if writes != 2 {
			t.Errorf("%d writes, want 2", writes)
		}
		o := b.controller.options
		synctest.Wait() // the fake informers have told of it all
		for range 50 {
			c, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			b.cache.introduce(c)
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error)
			go func() { ended <- c.Run(ctx) }()
			time.Sleep(time.Second)
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if n := b.count(); n != writes {
			t.Errorf("%d writes by later terms", n-writes)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{MaxEndpointsPerSubset: 1001, Concurrency: 0, Client: nil, Shared: nil, Term: nil, Registerer: prometheus.NewRegistry(), Recorder: nil, Log: slog.New(slog.DiscardHandler)})
	for _, want := range []string{"Client, Shared and Term", "MaxEndpointsPerSubset is 1001", "Concurrency is 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}
