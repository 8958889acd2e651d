//go:build netns

package proxy_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/signpost-dev/signpost/pkg/proxy"
)

// TestRealRestart checks that a Proxy that starts over existing rules loses no
// connection, removes what is not wanted any more and adds what is.
func TestRealRestart(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"), n.Pod("b"))
		n.start()
		svc := n.dual(1, 0, "a")
		n.publish(svc, n.dual(2, 0, "b"))
		ctx, cancel := context.WithCancel(t.Context())
		asked, failed := 0, make(chan int)
		go func() {
			bad := 0
			for ctx.Err() == nil {
				asked++
				if got, err := n.Pod("client").Dial(t.Context(), "tcp", vip(svc, 0)); err != nil || got.Name != "a" {
					bad++
				}
			}
			failed <- bad
		}()
		for range 5 {
			n.stop()
			n.start()
			n.settle()
		}
		n.stop()
		n.source.publish(gone(2), n.dual(3, 0, "b"))
		n.start()
		n.settle()
		cancel()
		if bad := <-failed; bad > 0 || asked < 20 {
			t.Errorf("%d of %d connections were lost in restarts", bad, asked)
		}
		if got := n.who(n.Pod("client"), "tcp", vip(n.dual(3, 0), 0), 2); got["b"] != 2 {
			t.Errorf("new Service: %v", got)
		}
		if s := n.save(); strings.Contains(s, "10.96.0.2/32") || strings.Count(s, "-A PREROUTING -j SIGNPOST-SERVICES") != 2 {
			t.Errorf("after restarts:\n%s", s)
		}
	})
}

// TestRealOneBadService puts a program in front of iptables-restore that refuses
// what mentions an address, as a kernel without some match would.
func TestRealOneBadService(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		real, err := exec.LookPath("iptables-" + backend + "-restore")
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		// What comes before the line is committed, as by a kernel that refuses it.
		wrapper := "#!/bin/sh\nin=$(mktemp)\ntrap 'rm -f $in' EXIT\ncat >$in\n" +
			"sed -i '/default\\/s6:/s/.*/-A SIGNPOST-SERVICES -m nosuchmatch -j RETURN/' $in\n" +
			real + " \"$@\" <$in\n"
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(real)), []byte(wrapper), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	}
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"), n.Pod("b"))
		n.start()
		n.publish(n.dual(1, 0, "a"), n.dual(6, 0, "a"), n.dual(7, 0, "a"))
		n.publish(n.dual(1, 0, "b"), n.dual(8, 0, "b"), gone(7))
		for i, want := range map[int]string{1: "b", 8: "b"} {
			if got := n.who(n.Pod("client"), "tcp", vip(n.dual(i, 0), 0), 2); got[want] != 2 {
				t.Errorf("s%d: %v answered, want %s", i, got, want)
			}
		}
		// IPv6 has the real program.
		if got := n.who(n.Pod("client"), "tcp", vip(n.dual(6, 0), 1), 2); got["a"] != 2 {
			t.Errorf("s6 by IPv6: %v answered, want a", got)
		}
		n.events.mu.Lock()
		defer n.events.mu.Unlock()
		if want := []string{"default/s6 " + proxy.ReasonRefused}; !slices.Equal(n.events.list, want) {
			t.Errorf("events %v, want %v", n.events.list, want)
		}
	})
}

// TestRealRepairAndCleanup damages the rules in several ways, sees them come
// back, and at the end removes them and nothing else.
func TestRealRepairAndCleanup(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *field) {
		n.serve(n.Pod("a"))
		tool := "iptables-" + n.backend
		run := func(args ...string) {
			t.Helper()
			if _, err := n.Node.Command(t.Context(), "", tool, args...); err != nil {
				t.Fatal(err)
			}
		}
		run("-A", "FORWARD", "-s", "203.0.113.7", "-j", "DROP")
		n.start()
		svc := n.dual(1, 0, "a")
		n.publish(svc)
		for _, damage := range [][]string{
			{"-t", "nat", "-F"}, {"-t", "nat", "-D", "PREROUTING", "-j", "SIGNPOST-SERVICES"}, {"-t", "nat", "-F", "SIGNPOST-SERVICES"},
		} {
			run(damage...)
			n.until(strings.Join(damage, " ")+" is mended", func() bool {
				got, err := n.Pod("client").Dial(t.Context(), "tcp", vip(svc, 0))
				return err == nil && got.Name == "a"
			})
		}
		n.stop()
		if err := n.Node.DoAlone(func() error { return proxy.Cleanup(t.Context(), slog.New(slog.DiscardHandler)) }); err != nil {
			t.Fatal(err)
		}
		if s := n.save(); strings.Contains(s, "SIGNPOST") || !strings.Contains(s, "203.0.113.7") {
			t.Errorf("after cleanup:\n%s", s)
		}
	})
}
