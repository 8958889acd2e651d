package backends

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
)

// fleet is so many nodes that find all backends up, and note who was asked.
type fleet struct {
	nodes []string
	asked [][]string
}

func (f *fleet) Able() ([]string, int) { return f.nodes, len(f.nodes) }

func (f *fleet) Ask(_ context.Context, names []string, _ check.Key) []verdict.Finding {
	f.asked = append(f.asked, names)
	return make([]verdict.Finding, len(names), verdict.Checkers)
}

func (f *fleet) Resolve(context.Context, string, bool) ([]netip.Addr, error) { return nil, nil }

func newController(tb testing.TB, nodes *fleet) *Controller {
	c, err := New(Options{
		Client: fake.NewClientBuilder().Build(), Shared: &informertest.FakeInformers{}, Nodes: nodes, Resolver: nodes, Concurrency: 1,
		Slices:     func(context.Context, ledger.Key) ([]*discoveryv1.EndpointSlice, error) { return nil, nil },
		Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for _, q := range []interface{ ShutDown() }{c.queue, c.asking, c.resolving, c.telling} {
			q.ShutDown()
		}
	})
	return c
}

func (c *Controller) add(k ledger.Key, request check.Request, addresses ...string) {
	s := &state{}
	s.set(types.UID(k.String()), request, []*discoveryv1.EndpointSlice{slice("a", addresses...)}, nil)
	c.services[k] = s
}

// TestThreeNodesCheck: the same three of ten for all backends of a Service, others
// for others, and who goes is replaced without that the other two change.
func TestThreeNodesCheck(t *testing.T) {
	f := &fleet{}
	for i := range 10 {
		f.nodes = append(f.nodes, fmt.Sprint("node-", i))
	}
	c := newController(t, f)
	tcp := check.Request{Check: &check.Check{Kind: check.TCP}}
	chosen := map[string]bool{}
	for i := range 20 {
		k := ledger.Key{Namespace: "ns", Name: fmt.Sprint("svc-", i)}
		c.add(k, tcp, "192.0.2.1")
		f.asked = nil
		c.ask(t.Context(), k)
		if len(f.asked) != 1 || len(f.asked[0]) != 3 {
			t.Fatalf("asked: %v", f.asked)
		}
		three := f.asked[0]
		chosen[fmt.Sprint(three)] = true
		all := f.nodes
		f.nodes, f.asked = nil, nil
		for _, n := range all {
			if n != three[1] {
				f.nodes = append(f.nodes, n)
			}
		}
		c.ask(t.Context(), k)
		if got := f.asked[0]; got[0] != three[0] || got[1] != three[2] {
			t.Errorf("%v, and without %s %v", three, three[1], got)
		}
		f.nodes = all
	}
	if len(chosen) < 10 {
		t.Errorf("20 Services are checked by %d threes of nodes", len(chosen))
	}
}

// BenchmarkAsk is one round of asking about a Service with four backends, without
// the datagrams.
func BenchmarkAsk(b *testing.B) {
	f := &fleet{nodes: []string{"a", "b", "c", "d", "e"}}
	c := newController(b, f)
	k := ledger.Key{Namespace: "ns", Name: "svc"}
	c.add(k, check.Request{Check: &check.Check{Kind: check.TCP}}, "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
	c.options.Nodes = quiet{f}
	b.ReportAllocs()
	for b.Loop() {
		c.ask(b.Context(), k)
	}
}

// quiet notes nothing.
type quiet struct{ *fleet }

func (quiet) Ask(_ context.Context, names []string, _ check.Key) []verdict.Finding {
	return make([]verdict.Finding, len(names))
}
