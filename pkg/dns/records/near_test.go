package records

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// TestNearFirst holds the order of distances, and that those which are alike come
// first in turn.
func TestNearFirst(t *testing.T) {
	at := func(node, zone string, texts ...string) []model.Endpoint {
		out := ready(texts...)
		for i := range out {
			out[i].Node, out[i].Zone = node, zone
		}
		return out
	}
	far := at("n3", "west", "172.0.0.1", "172.0.0.2", "172.0.0.3")
	svc := headless("near", model.EndpointGroup{Ports: httpEP, Endpoints: far},
		model.EndpointGroup{Ports: httpEP, Endpoints: append(at("n2", "east", "172.0.0.4", "172.0.0.5"), at("n1", "east", "172.0.0.6")...)})
	snapshot := snapshotOf([]*model.Service{svc})
	snapshot.Node = model.Node{Name: "n1", Zone: "east"}
	v, err := New(Options{Domain: "cluster.local", NearFirst: true})
	if err != nil {
		t.Fatal(err)
	}
	v = v.Next(snapshot, 1)
	first := map[string]int{}
	for rotation := range uint32(6) {
		a := v.Answer(Question{"near.testns.svc.cluster.local.", dns.TypeA}, rotation)
		if !a.Varies || a.Turns || len(a.Answer) != 6 {
			t.Fatalf("rotation %d: %+v", rotation, a)
		}
		var order []int
		for _, rr := range a.Answer {
			ip, _ := netip.AddrFromSlice(rr.(*dns.A).A)
			order = append(order, map[byte]int{4: inZone, 5: inZone, 6: onNode, 1: anywhere, 2: anywhere, 3: anywhere}[ip.As4()[3]])
		}
		if diff := cmp.Diff([]int{onNode, inZone, inZone, anywhere, anywhere, anywhere}, order); diff != "" {
			t.Errorf("rotation %d: -want +got\n%s", rotation, diff)
		}
		first[a.Answer[1].(*dns.A).A.String()]++
		first[a.Answer[3].(*dns.A).A.String()]++
	}
	want := map[string]int{"172.0.0.4": 3, "172.0.0.5": 3, "172.0.0.1": 2, "172.0.0.2": 2, "172.0.0.3": 2}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("first of those that are alike: -want +got\n%s", diff)
	}
}
