package model

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestServiceMapBehavesLikeAMap runs random changes against a plain map, and
// checks after each that the older version has not moved.
func TestServiceMapBehavesLikeAMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var m ServiceMap
	plain := map[Name]*Service{}
	for range 500 {
		changes := map[Name]*Service{}
		for range rng.IntN(20) {
			n := Name{"ns", fmt.Sprint("s", rng.IntN(300))}
			if rng.IntN(3) == 0 {
				changes[n] = nil
			} else {
				changes[n] = &Service{Name: n}
			}
		}
		before, plainBefore := m, maps.Clone(plain)
		m = m.With(changes)
		var want []Name
		for n, s := range changes {
			if plain[n] != s {
				want = append(want, n)
			}
			if s == nil {
				delete(plain, n)
			} else {
				plain[n] = s
			}
		}
		assertHolds(t, &m, plain)
		assertHolds(t, &before, plainBefore)
		got := m.Diff(&before)
		slices.SortFunc(got, Name.Compare)
		slices.SortFunc(want, Name.Compare)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("Diff (-want +got):\n%s", diff)
		}
	}
}

func assertHolds(t *testing.T, m *ServiceMap, want map[Name]*Service) {
	t.Helper()
	if m.Len() != len(want) {
		t.Fatalf("Len() = %d, want %d", m.Len(), len(want))
	}
	got := maps.Collect(m.All())
	if !maps.Equal(got, want) {
		t.Fatalf("map holds %d services that are not the %d wanted", len(got), len(want))
	}
	for n, s := range want {
		if m.Get(n) != s {
			t.Fatalf("Get(%v) = %p, want %p", n, m.Get(n), s)
		}
	}
}

func TestTargetsAndUsable(t *testing.T) {
	ep := func(addr string, ready, serving, terminating bool) Endpoint {
		return Endpoint{Addr: netip.MustParseAddr(addr), Ready: ready, Serving: serving, Terminating: terminating}
	}
	http := []EndpointPort{{"http", TCP, 8080}, {"dns", UDP, 53}}
	port := ServicePort{Name: "http", Protocol: TCP, Port: 80}
	v4 := netip.MustParseAddr("10.96.0.1")
	for _, tt := range []struct {
		name    string
		groups  []EndpointGroup
		targets []string
		usable  []string
	}{
		{"none", nil, nil, nil},
		{"ready ones only",
			[]EndpointGroup{{Ports: http, Endpoints: []Endpoint{ep("10.0.0.1", true, true, false), ep("10.0.0.2", false, false, false)}}},
			[]string{"10.0.0.1:8080", "10.0.0.2:8080"}, []string{"10.0.0.1:8080"}},
		{"terminating when none is ready",
			[]EndpointGroup{{Ports: http, Endpoints: []Endpoint{ep("10.0.0.1", false, true, true), ep("10.0.0.2", false, false, true)}}},
			[]string{"10.0.0.1:8080", "10.0.0.2:8080"}, []string{"10.0.0.1:8080"}},
		{"in two groups, the one that stays counts",
			[]EndpointGroup{{Ports: http, Endpoints: []Endpoint{ep("10.0.0.1", false, true, true)}}, {Ports: http, Endpoints: []Endpoint{ep("10.0.0.1", true, true, false)}}},
			[]string{"10.0.0.1:8080"}, []string{"10.0.0.1:8080"}},
		{"other family, other port name",
			[]EndpointGroup{
				{Ports: http, Endpoints: []Endpoint{ep("fd00::1", true, true, false)}},
				{Ports: []EndpointPort{{"other", TCP, 1}}, Endpoints: []Endpoint{ep("10.0.0.9", true, true, false)}}},
			nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Service{Groups: tt.groups}
			targets := s.Targets(port, v4)
			if diff := cmp.Diff(tt.targets, addrs(targets)); diff != "" {
				t.Errorf("Targets (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.usable, addrs(Usable(targets))); diff != "" {
				t.Errorf("Usable (-want +got):\n%s", diff)
			}
		})
	}
}

func addrs(targets []Target) []string {
	var out []string
	for _, t := range targets {
		out = append(out, t.AddrPort.String())
	}
	return out
}

func TestNamesAsText(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{Name{"ns", "svc"}.String(), "ns/svc"},
		{Name{"", "node1"}.String(), "node1"},
		{ServicePortName{Name{"ns", "svc"}, "http", TCP}.String(), "ns/svc:http"},
		{ServicePortName{Name{"ns", "svc"}, "", UDP}.String(), "ns/svc"},
		{Problem{"spec.ports[0].port", "is 0"}.String(), "spec.ports[0].port: is 0"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}
