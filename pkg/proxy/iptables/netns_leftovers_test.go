//go:build netns

package iptables_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// TestFindLeftovers counts what a kube-proxy has left, and neither what kubelet
// has nor what is Signpost's.
func TestFindLeftovers(t *testing.T) {
	inside(t, func() {
		legacy, err := iptables.Open(t.Context(), iptables.Legacy, ruleset.IPv6, iptables.NewWitness(iptables.Legacy))
		if err != nil {
			t.Error(err)
			return
		}
		if err := legacy.Restore(t.Context(), "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-FIREWALL - [0:0]\n:SIGNPOST-SERVICES - [0:0]\n"+
			"-A KUBE-SERVICES -d fd00::1 -j KUBE-SVC-A\n-A KUBE-SVC-A -j RETURN\n-A KUBE-FIREWALL -j RETURN\n-A SIGNPOST-SERVICES -j RETURN\n"+
			"-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n"); err != nil {
			t.Error(err)
		}
		got, err := iptables.FindLeftovers(t.Context())
		want := []iptables.Leftovers{{Backend: iptables.Legacy, Family: ruleset.IPv6, Rules: 2}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	})
}
