//go:build netns

package dns

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

// TestNothingIsLostAtTheEnd asks all the time until the server goes. Who is turned away is
// answered by other nodes where there are rules; who is not must get an answer.
func TestNothingIsLostAtTheEnd(t *testing.T) {
	p := newPod(t)
	unreachable(t, "10.96.0.0/16")
	const askers, rounds = 8, 5
	for round := range rounds {
		s, snapshots := nodeServer(t)
		snapshots.publish(cluster("10.96.0.10"))
		stop := run(t, s)
		var answered atomic.Int64
		var all sync.WaitGroup
		for range askers {
			var conn net.Conn
			p.run(func() (err error) {
				conn, err = net.Dial("udp", "10.96.0.10:53")
				return err
			})
			all.Go(func() {
				defer conn.Close()
				if err := askWhileThere(&dns.Conn{Conn: conn}, &answered); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		waitFor(t, "answers", func() bool { return answered.Load() > 1000 })
		stop()
		all.Wait()
	}
}

// unreachable has whoever sends through this node to a network that it does not have be
// told so, each time, by the one of such messages that is an error at once.
func unreachable(t *testing.T, network string) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/ipv4/icmp_ratemask", []byte("0"), 0))
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	_, dst, err := net.ParseCIDR(network)
	must(t, err)
	link, err := netlink.LinkByName("node0")
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}))
	rule := []string{"FORWARD", "-d", network, "-j", "REJECT", "--reject-with", "icmp-admin-prohibited"}
	must(t, exec.Command("iptables", append([]string{"-A"}, rule...)...).Run())
	t.Cleanup(func() { must(t, exec.Command("iptables", append([]string{"-D"}, rule...)...).Run()) })
}

// askWhileThere asks from the first answer on until it is turned away.
func askWhileThere(c *dns.Conn, answered *atomic.Int64) error {
	q := request("web.default.svc.cluster.local.", dns.TypeA, 0)
	for there := false; ; {
		if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
		err := c.WriteMsg(q)
		if err == nil {
			_, err = c.ReadMsg()
		}
		switch {
		case err == nil:
			there = true
			answered.Add(1)
		case !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ECONNREFUSED):
			return err
		case there:
			return nil
		}
	}
}
