package packed

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/model"
)

func newBook(t *testing.T, maxBytes int) *Book {
	t.Helper()
	v, err := records.New(records.Options{Domain: "cluster.local", TTL: 5, Pods: records.PodsDisabled, Server: model.Name{Namespace: "kube-system", Name: "kube-dns"}})
	if err != nil {
		t.Fatal(err)
	}
	return New(v, maxBytes)
}

func snapshot(generation uint64, services ...*model.Service) *model.Snapshot {
	var m model.ServiceMap
	changes := map[model.Name]*model.Service{}
	for _, s := range services {
		changes[s.Name] = s
	}
	return &model.Snapshot{Generation: generation, Services: m.With(changes), Namespaces: map[string]struct{}{"default": {}}}
}

func service(name, addr string) *model.Service {
	return &model.Service{Name: model.Name{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{netip.MustParseAddr(addr)}}
}

func wireName(t *testing.T, name string) []byte {
	t.Helper()
	b := make([]byte, 256)
	n, err := dns.PackDomainName(name, b, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// TestWhatChangedIsForgotten keeps the answers that a change does not concern.
func TestWhatChangedIsForgotten(t *testing.T) {
	a, b := service("a", "10.96.0.1"), service("b", "10.96.0.2")
	book := newBook(t, 1<<20).Next(snapshot(1, a, b), 1)
	nameA, nameB, none := wireName(t, "a.default.svc.cluster.local."), wireName(t, "b.default.svc.cluster.local."), wireName(t, "c.default.svc.cluster.local.")
	for _, n := range [][]byte{nameA, nameB, none} {
		if book.Pack(n, dns.TypeA) == nil || book.Find(n, dns.TypeA) == nil {
			t.Fatalf("%q is not kept", n)
		}
	}
	next := book.Next(snapshot(2, a, service("b", "10.96.0.3")), 2)
	if next.Find(nameA, dns.TypeA) == nil {
		t.Error("an answer that the change does not concern is lost")
	}
	if next.Find(nameB, dns.TypeA) != nil {
		t.Error("the answer of a Service that has changed is kept")
	}
	if r := next.Find(none, dns.TypeA); r == nil || r.Rcode() != dns.RcodeNameError {
		t.Error("that a name does not exist is lost")
	}
	if next.Next(snapshot(3, a, service("c", "10.96.0.4")), 3).Find(none, dns.TypeA) != nil {
		t.Error("a name that exists by now is said not to")
	}
}

// TestMemoryIsBounded floods the table with names that are asked for once, among which
// are few that are asked for again and again.
func TestMemoryIsBounded(t *testing.T) {
	const limit = 1 << 20
	book := newBook(t, limit).Next(snapshot(1, service("a", "10.96.0.1")), 1)
	used := wireName(t, "a.default.svc.cluster.local.")
	book.Pack(used, dns.TypeA)
	for i := range 50_000 {
		book.Pack(wireName(t, fmt.Sprintf("x%d.default.svc.cluster.local.", i)), dns.TypeA)
		if i%100 == 0 && book.Find(used, dns.TypeA) == nil {
			t.Fatalf("what is in use was pushed out after %d others", i)
		}
	}
	if entries, octets := book.Size(); octets > limit || entries < 1000 {
		t.Errorf("%d entries in %d octets", entries, octets)
	}
}

// TestWhatIsGoneIsLetGo sweeps out answers that nobody asks for again.
func TestWhatIsGoneIsLetGo(t *testing.T) {
	var services []*model.Service
	for i := range 200 {
		services = append(services, service(fmt.Sprint("s", i), fmt.Sprintf("10.96.0.%d", i)))
	}
	book := newBook(t, 1<<20).Next(snapshot(1, services...), 1)
	for i := range services {
		book.Pack(wireName(t, fmt.Sprintf("s%d.default.svc.cluster.local.", i)), dns.TypeA)
	}
	for i := range uint32(shards * sweepPart) {
		book = book.Next(snapshot(uint64(i)+2), i+2)
	}
	if entries, octets := book.Size(); entries != 0 || octets != 0 {
		t.Errorf("%d entries of %d octets are left", entries, octets)
	}
}
