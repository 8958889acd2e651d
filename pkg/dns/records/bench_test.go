package records

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// manyServices makes n Services with a cluster IP and ten endpoints each.
func manyServices(n int) []*model.Service {
	var out []*model.Service
	for i := range n {
		svc := clusterIP(fmt.Sprint("svc-", i), []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}, http)
		g := model.EndpointGroup{Ports: httpEP}
		for j := range 10 {
			g.Endpoints = append(g.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(128 + j), byte(i >> 8), byte(i)}), Ready: true})
		}
		svc.Groups = []model.EndpointGroup{g}
		out = append(out, svc)
	}
	return out
}

func BenchmarkAnswer(b *testing.B) {
	services := append(manyServices(10000), cluster()...)
	v := viewOf(b, services)
	for _, bb := range []struct {
		name string
		q    Question
	}{
		{"ClusterIP A", Question{"svc-5000.testns.svc.cluster.local.", dns.TypeA}},
		{"ClusterIP AAAA NODATA", Question{"svc-5000.testns.svc.cluster.local.", dns.TypeAAAA}},
		{"ClusterIP SRV", Question{"_http._tcp.svc-5000.testns.svc.cluster.local.", dns.TypeSRV}},
		{"headless A", Question{"hdls1.testns.svc.cluster.local.", dns.TypeA}},
		{"NXDOMAIN", Question{"www.example.org.testns.svc.cluster.local.", dns.TypeA}},
		{"PTR", Question{"136.19.96.10.in-addr.arpa.", dns.TypePTR}},
		{"forward", Question{"www.example.org.", dns.TypeA}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			var i uint32
			for b.Loop() {
				i++
				v.Answer(bb.q, i)
			}
		})
	}
}

// BenchmarkNext is the cost of one changed Service among 10,000.
func BenchmarkNext(b *testing.B) {
	services := manyServices(10000)
	v := viewOf(b, services)
	changed := *services[77]
	changed.Groups = []model.EndpointGroup{{Ports: httpEP, Endpoints: changed.Groups[0].Endpoints[1:]}}
	s := &model.Snapshot{Services: v.snapshot.Services.With(map[model.Name]*model.Service{changed.Name: &changed}), Namespaces: v.snapshot.Namespaces}
	b.ReportAllocs()
	for b.Loop() {
		v.Next(s, 1)
	}
}

// BenchmarkNextOfManyEndpoints is the cost of one changed endpoint among 5,000 of a
// headless Service, in groups of 100.
func BenchmarkNextOfManyEndpoints(b *testing.B) {
	big := headless("big")
	for i := range 50 {
		g := model.EndpointGroup{Ports: httpEP}
		for j := range 100 {
			g.Endpoints = append(g.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 210, byte(i), byte(j)}), Ready: true})
		}
		big.Groups = append(big.Groups, g)
	}
	v := viewOf(b, []*model.Service{big})
	changed := *big
	changed.Groups = slices.Clone(big.Groups)
	changed.Groups[7].Endpoints = slices.Clone(big.Groups[7].Endpoints)
	changed.Groups[7].Endpoints[7].Ready = false
	s := &model.Snapshot{Services: v.snapshot.Services.With(map[model.Name]*model.Service{big.Name: &changed}), Namespaces: v.snapshot.Namespaces}
	b.ReportAllocs()
	for b.Loop() {
		v.Next(s, 1)
	}
}
