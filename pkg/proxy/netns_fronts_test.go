//go:build netns

package proxy_test

import (
	"strings"
	"testing"
	"time"
)

// TestRealLocalhostIsGuardedFirst holds that the kernel routes 127.0.0.0/8 only when the
// rules are in that keep neighbours from it.
func TestRealLocalhostIsGuardedFirst(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		const file = "/proc/sys/net/ipv4/conf/all/route_localnet"
		routes := func() string {
			out, err := n.Node.Command(t.Context(), "", "cat", file)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(out)
		}
		n.start() // without a Snapshot yet
		time.Sleep(200 * time.Millisecond)
		if got := routes(); got != "0" {
			t.Errorf("without rules: route_localnet is %s", got)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for routes() == "0" {
			}
		}()
		n.publish(n.dual(1, 30080, "a"))
		<-done
		if s := n.save(); !strings.Contains(s, "-A INPUT -j SIGNPOST-FIREWALL") || !strings.Contains(s, "-A SIGNPOST-FIREWALL") {
			t.Errorf("localhost is routed and not guarded:\n%s", s)
		}
	})
}
