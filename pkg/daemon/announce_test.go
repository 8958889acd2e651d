package daemon

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	signpostv1alpha1 "github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/model"
)

// wishWorld is what a node sees, and how far its rules are.
type wishWorld struct {
	*wishes
	*testing.T
	snapshot *model.Snapshot
	rules    uint64
}

func newWishWorld(t *testing.T) *wishWorld {
	w := &wishWorld{T: t, snapshot: &model.Snapshot{Node: model.Node{Name: "a", Labels: map[string]string{"rack": "1"}}}}
	read := func() *model.Snapshot { return w.snapshot }
	w.wishes = &wishes{
		snapshot: read, programmed: func() uint64 { return w.rules }, pools: &poolWatch{needed: make(chan struct{})},
		roster: roster{cfg: v1alpha1.Default(), snapshot: read}, since: map[netip.Addr]uint64{},
	}
	return w
}

// have makes the next snapshot.
func (w *wishWorld) have(services ...*model.Service) {
	changes := map[model.Name]*model.Service{}
	for name := range w.snapshot.Services.All() {
		changes[name] = nil
	}
	for _, s := range services {
		changes[s.Name] = s
	}
	next := *w.snapshot
	next.Generation++
	next.Services = w.snapshot.Services.With(changes)
	w.snapshot = &next
}

func (w *wishWorld) announces(why string, want ...netip.Addr) {
	w.Helper()
	var got []netip.Addr
	if wishes := w.read(); wishes != nil {
		got = slices.SortedFunc(maps.Keys(wishes.Addresses), netip.Addr.Compare)
	}
	if !slices.Equal(got, want) {
		w.Errorf("%s: %v, want %v", why, got, want)
	}
}

func nameServerOn(nodes ...string) *model.Service {
	svc := &model.Service{Name: model.Name{Namespace: "kube-system", Name: "kube-dns"}}
	for i, n := range nodes {
		svc.Groups = append(svc.Groups, model.EndpointGroup{Endpoints: []model.Endpoint{{Node: n, Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}}})
	}
	return svc
}

func loadBalancer(name string, addresses ...netip.Addr) *model.Service {
	return &model.Service{Name: model.Name{Namespace: "default", Name: name}, Announced: true, LoadBalancerIPs: addresses}
}

func TestWishes(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	w := newWishWorld(t)
	if w.read() != nil {
		t.Error("there are wishes without any Service")
	}
	w.have(nameServerOn("a", "b"))
	if w.read() != nil {
		t.Error("there are wishes without an address")
	}
	select {
	case <-w.pools.needed:
		t.Error("pools are needed without an address")
	default:
	}
	w.have(nameServerOn("a", "b"), loadBalancer("x", one))
	w.rules = 2
	w.announces("pools are not known")
	if got := w.read(); got == nil || len(got.Nodes) != 2 {
		t.Errorf("it has no vote meanwhile: %+v", got)
	}
	w.pools.take(nil)
	w.announces("all is known", one)
	before := w.read()
	if w.read() != before {
		t.Error("nothing has changed, and the wishes are others")
	}

	w.have(nameServerOn("a", "b"), loadBalancer("x", one), loadBalancer("y", two))
	w.announces("its rules do not have it yet", one)
	w.rules = 3
	w.announces("its rules have it", one, two)
	w.have(nameServerOn("a", "b"), loadBalancer("x", one), loadBalancer("y", two), &model.Service{Name: model.Name{Name: "z"}})
	before = w.read()
	w.have(nameServerOn("a", "b"), loadBalancer("x", one), loadBalancer("y", two))
	if w.read() != before {
		t.Error("other objects say the same, and the wishes are others")
	}
	w.have(nameServerOn("a", "b"), loadBalancer("y", two))
	w.announces("what is gone is gone at once", two)
	w.have(nameServerOn("a", "b"), loadBalancer("x", one), loadBalancer("y", two))
	w.announces("what is back waits for the rules", two)
}

// TestPoolsSeenByNodes: nodes that a pool does not select do not announce its
// addresses; which of several pools has one decides the older.
func TestPoolsSeenByNodes(t *testing.T) {
	one, two, three := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	pool := func(name, ranges, rack string) *signpostv1alpha1.LoadBalancerPool {
		p := &signpostv1alpha1.LoadBalancerPool{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Generation: 1}}
		p.Spec.Addresses, p.Spec.Interfaces = []string{ranges, "?"}, []string{"eth-" + name}
		if rack != "" {
			p.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"rack": rack}}
		}
		return p
	}
	w := newWishWorld(t)
	w.rules = 100
	w.have(nameServerOn("a"), loadBalancer("x", one, two, three))
	malformed := pool("aa", "192.0.2.3", "")
	malformed.Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Near"}}}
	w.pools.take([]any{malformed, pool("b", "192.0.2.2", "1"), pool("a", "192.0.2.1", "2"), pool("c", "192.0.2.0/24", "")})
	w.announces("one of another rack, and one of a pool that cannot be read", two)
	if got := w.read().Addresses[two].Interfaces; !slices.Equal(got, []string{"eth-b"}) {
		t.Errorf("at %v", got)
	}
	before := w.read()
	w.pools.take([]any{malformed, pool("b", "192.0.2.2", "1"), pool("a", "192.0.2.1", "2"), pool("c", "192.0.2.0/24", "")})
	if w.read() != before {
		t.Error("the same pools are news")
	}
	w.snapshot.Node.Labels = map[string]string{"rack": "2"}
	w.announces("the node is in the other rack", one)
}
