package model

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestChoose has the cases of kube-proxy's TestCategorizeEndpoints: an endpoint is
// written NODE[:FLAGS[:HINTS]], flags are r(eady), s(erving) and t(erminating), hints
// are names of nodes (n1) and zones (za).
func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		name               string
		endpoints          string
		internal, external bool
		cluster, local     string
	}{
		{name: "none", endpoints: ""},
		{name: "ready ones", endpoints: "n1:r n2:r n3:-", cluster: "0 1"},
		{name: "zone hints", endpoints: "n1:r:za n2:r:zb n3:r:za", cluster: "0 2"},
		{name: "a zone hint is missing", endpoints: "n1:r:za n2:r n3:r:za", cluster: "0 1 2"},
		{name: "a zone hint is missing at one that is not ready", endpoints: "n1:r:za n2:- n3:r:za,zb n3:r:zb", cluster: "0 2"},
		{name: "no zone hint for here", endpoints: "n1:r:zb n2:r:zb", cluster: "0 1"},
		{name: "node hints", endpoints: "n1:r:n1 n2:r:n2", cluster: "0"},
		{name: "node before zone", endpoints: "n1:r:n1,za n2:r:n2,za", cluster: "0"},
		{name: "zone, as no node hint is for here", endpoints: "n2:r:n2,za n3:r:n3,zb", cluster: "0"},
		{name: "zone, as a node hint is missing", endpoints: "n1:r:n1,za n2:r:za n3:r:zb", cluster: "0 1"},
		{name: "terminating, hints do not count", endpoints: "n1:st:zb n2:st:za n3:t", cluster: "0 1"},
		{name: "one is ready, terminating do not count", endpoints: "n1:st:za n2:r:za", cluster: "1"},
		{name: "local", endpoints: "n1:r n2:r", internal: true, cluster: "0 1", local: "0"},
		{name: "local does not know hints", endpoints: "n1:r:zb n2:r:za", external: true, cluster: "1", local: "0"},
		{name: "local falls back by itself", endpoints: "n1:st n2:r", external: true, cluster: "1", local: "0"},
		{name: "both fall back", endpoints: "n1:st n2:st", external: true, cluster: "0 1", local: "0"},
		{name: "local prefers ready", endpoints: "n1:st n1:r n2:r", internal: true, cluster: "1 2", local: "1"},
		{name: "none local", endpoints: "n2:r", internal: true, cluster: "0"},
		{name: "an endpoint without node is not local", endpoints: "?:r", internal: true, cluster: "0"},
		{name: "neither serving nor ready", endpoints: "n1:t n2:s", internal: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := &Service{InternalLocal: tt.internal, ExternalLocal: tt.external}
			group := EndpointGroup{Ports: []EndpointPort{{Protocol: TCP, Port: 80}}}
			for i, text := range strings.Fields(tt.endpoints) {
				group.Endpoints = append(group.Endpoints, endpointOf(i, text))
			}
			svc.Groups = []EndpointGroup{group}
			got := svc.Choose(ServicePort{Protocol: TCP, Port: 80}, netip.MustParseAddr("10.0.0.1"), &Node{Name: "n1", Zone: "za"})
			if diff := cmp.Diff(tt.cluster, numbers(got.Cluster)); diff != "" {
				t.Errorf("Cluster (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.local, numbers(got.Local)); diff != "" {
				t.Errorf("Local (-want +got):\n%s", diff)
			}
			if want := tt.cluster != ""; got.Any != want {
				t.Errorf("Any = %t", got.Any)
			}
		})
	}
}

func endpointOf(i int, text string) Endpoint {
	parts := append(strings.Split(text, ":"), "", "")
	e := Endpoint{Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})}
	if parts[0] != "?" {
		e.Node = parts[0]
	}
	ready := strings.Contains(parts[1], "r")
	e.Ready, e.Serving, e.Terminating = ready, ready || strings.Contains(parts[1], "s"), strings.Contains(parts[1], "t")
	if parts[2] == "" {
		return e
	}
	e.Hints = &Hints{}
	for h := range strings.SplitSeq(parts[2], ",") {
		if h[0] == 'n' {
			e.Hints.Nodes = append(e.Hints.Nodes, h)
		} else {
			e.Hints.Zones = append(e.Hints.Zones, h)
		}
	}
	return e
}

// numbers names targets by the last byte of their addresses.
func numbers(targets []Target) string {
	var out []string
	for _, t := range targets {
		b := t.Addr().As4()
		out = append(out, fmt.Sprint(b[3]))
	}
	return strings.Join(out, " ")
}
