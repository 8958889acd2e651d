//go:build netns

package netlab_test

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/signpost-dev/signpost/test/netlab"
)

// TestEverybodyReachesEverybody checks the lab itself: without any rules, the
// pods, the node and the host outside reach each other, in both families.
func TestEverybodyReachesEverybody(t *testing.T) {
	lab, err := netlab.New("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	all := []*netlab.Namespace{lab.Node, lab.Outside, lab.Pod("a"), lab.Pod("b")}
	for _, to := range all {
		for _, network := range []string{"tcp", "udp"} {
			for _, a := range to.Addrs {
				srv, err := to.Serve(network, netip.AddrPortFrom(a, 8080))
				if err != nil {
					t.Fatal(err)
				}
				for _, from := range all {
					got, err := from.Dial(t.Context(), network, srv.Addr)
					if err != nil || got.Name != to.Name {
						t.Errorf("%s from %s to %s: got %+v, %v", network, from.Name, a, got, err)
					}
				}
				if err := srv.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if _, err := lab.Pod("a").Dial(t.Context(), "tcp", netip.AddrPortFrom(lab.Pod("b").Addrs[0], 8080)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("with the server closed: got %v, want ECONNREFUSED", err)
	}
	out, err := lab.Pod("a").Command(t.Context(), "", "ip", "-o", "link")
	if err != nil || !strings.Contains(out, "eth0") || strings.Contains(out, "pod1") {
		t.Errorf("a command in pod a sees %q, %v", out, err)
	}
}
