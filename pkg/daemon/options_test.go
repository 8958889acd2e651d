package daemon

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/model"
)

func TestNodePortsAt(t *testing.T) {
	node := &model.Node{Addrs: []netip.Addr{netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("192.168.2.10"), netip.MustParseAddr("fd01::10")}}
	only4 := &model.Node{Addrs: node.Addrs[:1]}
	for _, c := range []struct {
		name       string
		addresses  []string
		node       *model.Node
		ipv4, ipv6 string
	}{
		{"default", nil, node, "[0.0.0.0/0]", "[::/0]"},
		{"one family", []string{"192.168.0.0/16", "10.0.0.0/8"}, node, "[192.168.0.0/16 10.0.0.0/8]", "[::/0]"},
		{"both families", []string{"192.168.0.0/16", "fd01::/64"}, node, "[192.168.0.0/16]", "[fd01::/64]"},
		{"primary", []string{v1alpha1.NodePortPrimary}, node, "[192.168.1.10/32]", "[fd01::10/128]"},
		{"primary of one family", []string{v1alpha1.NodePortPrimary}, only4, "[192.168.1.10/32]", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := nodePortsAt(&v1alpha1.Proxy{NodePortAddresses: c.addresses})
			if got := fmt.Sprint(at(c.node, true)); got != c.ipv4 {
				t.Errorf("IPv4: %s, want %s", got, c.ipv4)
			}
			if got := fmt.Sprint(at(c.node, false)); got != c.ipv6 {
				t.Errorf("IPv6: %s, want %s", got, c.ipv6)
			}
		})
	}
}
