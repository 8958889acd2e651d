package records

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// dump returns all of an index in a form that can be compared.
func (x reverseIndex) dump() map[string][]string {
	out := map[string][]string{}
	if x.shards == nil {
		return out
	}
	for _, shard := range x.shards {
		for a, owners := range shard {
			for _, o := range owners {
				out[a.String()] = append(out[a.String()], o.domain(a, "cluster.local."))
			}
		}
	}
	return out
}

// randomService draws from few addresses and names, so that they collide.
func randomService(rng *rand.Rand, name model.Name) *model.Service {
	svc := &model.Service{Name: name}
	if rng.IntN(2) == 0 {
		svc.ClusterIPs = addrs(fmt.Sprintf("10.96.0.%d", rng.IntN(20)))
	} else {
		svc.Headless = true
	}
	for range rng.IntN(3) {
		g := model.EndpointGroup{Ports: httpEP}
		for range rng.IntN(6) {
			e := model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(30))}), Ready: rng.IntN(4) > 0}
			if rng.IntN(3) == 0 {
				e.Hostname = fmt.Sprint("host", rng.IntN(3))
			}
			g.Endpoints = append(g.Endpoints, e)
		}
		svc.Groups = append(svc.Groups, g)
	}
	return svc
}

// regrouped returns a Service that has some of the groups of was, some of them twice,
// and some of another.
func regrouped(rng *rand.Rand, was *model.Service) *model.Service {
	out, other := *was, randomService(rng, was.Name)
	out.Groups = nil
	for _, g := range slices.Concat(was.Groups, was.Groups, other.Groups) {
		if rng.IntN(2) == 0 {
			out.Groups = append(out.Groups, g)
		}
	}
	return &out
}

// TestIncrementalReverseEqualsFull runs random changes through Next, compares
// with an index that is made of the final state alone, and checks that the older
// View has not moved.
func TestIncrementalReverseEqualsFull(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		v := viewOf(t, nil)
		for range 50 {
			changes := map[model.Name]*model.Service{}
			for range rng.IntN(8) {
				n := model.Name{Namespace: "testns", Name: fmt.Sprint("s", rng.IntN(25))}
				switch was := v.snapshot.Services.Get(n); {
				case rng.IntN(4) == 0:
					changes[n] = nil
				case was != nil && rng.IntN(2) == 0:
					changes[n] = regrouped(rng, was)
				default:
					changes[n] = randomService(rng, n)
				}
			}
			before := v.reverse.dump()
			next := v.Next(&model.Snapshot{Services: v.snapshot.Services.With(changes), Namespaces: v.snapshot.Namespaces}, 1)
			if diff := cmp.Diff(before, v.reverse.dump()); diff != "" {
				t.Fatalf("seed %d: the older index moved:\n%s", seed, diff)
			}
			var empty model.ServiceMap
			full := reverseIndex{}.next(&empty, &next.snapshot.Services)
			if diff := cmp.Diff(full.dump(), next.reverse.dump()); diff != "" {
				t.Fatalf("seed %d (-full +incremental):\n%s", seed, diff)
			}
			v = next
		}
	}
}

func TestAddressOfSeveral(t *testing.T) {
	shared := ready("10.0.0.7")
	hosted := ready("10.0.0.7=web-0")
	group := func(e []model.Endpoint) model.EndpointGroup { return model.EndpointGroup{Ports: httpEP, Endpoints: e} }
	services := []*model.Service{headless("b", group(shared)), headless("a", group(hosted)), headless("c", group(unready(ready("10.0.0.7"))))}
	ask := func(services []*model.Service) []string {
		var out []string
		for _, rr := range viewOf(t, services).Answer(Question{"7.0.0.10.in-addr.arpa.", dns.TypePTR}, 0).Answer {
			out = append(out, rr.(*dns.PTR).Ptr)
		}
		return out
	}
	want := []string{"web-0.a.testns.svc.cluster.local.", "10-0-0-7.b.testns.svc.cluster.local."}
	if diff := cmp.Diff(want, ask(services)); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	services = append(services, clusterIP("z", addrs("10.0.0.7"), http))
	if diff := cmp.Diff([]string{"z.testns.svc.cluster.local."}, ask(services)); diff != "" {
		t.Errorf("a Service's own address comes alone (-want +got):\n%s", diff)
	}
}

// TestReverseNames holds parseReverse against miekg/dns over random addresses.
func TestReverseNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		b := make([]byte, []int{4, 16}[rng.IntN(2)])
		for i := range b {
			b[i] = byte(rng.UintN(256))
		}
		a, _ := netip.AddrFromSlice(b)
		name, err := dns.ReverseAddr(a.String())
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := parseReverse(name); !ok || got != a {
			t.Errorf("parseReverse(%s) = %v, %v; want %v", name, got, ok, a)
		}
	}
}

func TestUnchangedSnapshotSharesTheIndex(t *testing.T) {
	v := viewOf(t, cluster())
	next := v.Next(v.snapshot, 2)
	if next.reverse.shards != v.reverse.shards {
		t.Error("the index was copied though nothing changed")
	}
	changed := v.Next(&model.Snapshot{Services: v.snapshot.Services.With(map[model.Name]*model.Service{
		{Namespace: "testns", Name: "new"}: clusterIP("new", addrs("10.0.0.200"), http)})}, 2)
	same := 0
	for i := range changed.reverse.shards {
		if maps.EqualFunc(changed.reverse.shards[i], v.reverse.shards[i], slices.Equal) {
			same++
		}
	}
	if same != reverseShards-1 {
		t.Errorf("%d of %d shards are the same, want all but one", same, reverseShards)
	}
}
