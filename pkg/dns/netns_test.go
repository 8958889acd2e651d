//go:build netns

package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/signpost-dev/signpost/pkg/dns/records"
)

// inNamespace is set for the process that runs the tests.
const inNamespace = "SIGNPOST_TEST_IN_NETNS"

// TestMain runs all tests of the package in a process of its own whose network
// namespace is new: what they put onto its loopback interface goes with it, and
// the sockets of a server are in it whichever thread opens them.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) == "" {
		os.Exit(runInNamespace())
	}
	lo, err := netlink.LinkByName(loopback)
	if err == nil {
		err = errors.Join(netlink.LinkSetUp(lo), withoutDAD())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Cannot prepare the test's network namespace:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runInNamespace() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig means the thread's death.
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	}
	fmt.Fprintln(os.Stderr, "Cannot make a network namespace, which these tests need root for:", err)
	return 1
}

// pod is a namespace beside that of the server, with a link to it.
type pod struct {
	t    *testing.T
	do   chan func()
	done chan struct{}
}

// newPod links a new namespace to the server's. Its default routes lead there.
func newPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{t: t, do: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(p.done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		handle, err := netns.New()
		if err == nil {
			defer handle.Close()
			err = withoutDAD()
		}
		if ready <- err; err != nil {
			return
		}
		for f := range p.do {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(p.do); <-p.done })
	var tid int
	p.run(func() error { tid = syscall.Gettid(); return nil })
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "node0"}, PeerName: "pod0", PeerNamespace: netlink.NsPid(tid)}))
	t.Cleanup(func() {
		if link, err := netlink.LinkByName("node0"); err == nil {
			must(t, netlink.LinkDel(link))
		}
	})
	must(t, configure("node0", "192.168.77.1/24", "fd77::1/64"))
	p.run(func() error {
		return errors.Join(configure("pod0", "192.168.77.2/24", "fd77::2/64"),
			defaultRoute("192.168.77.1", "0.0.0.0/0"), defaultRoute("fd77::1", "::/0"))
	})
	return p
}

// run calls f in the namespace.
func (p *pod) run(f func() error) {
	p.t.Helper()
	err := make(chan error)
	p.do <- func() { err <- f() }
	must(p.t, <-err)
}

func configure(name string, addrs ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range addrs {
		addr, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// withoutDAD makes IPv6 addresses of links to come usable at once: the kernel else
// looks for a second for others who have them.
func withoutDAD() error {
	const conf = "/proc/sys/net/ipv6/conf/"
	return errors.Join(os.WriteFile(conf+"all/accept_dad", []byte("0"), 0), os.WriteFile(conf+"default/accept_dad", []byte("0"), 0))
}

func defaultRoute(via, to string) error {
	_, dst, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask asks from within the namespace, with a socket that takes an answer only
// from the address that was asked.
func (p *pod) ask(network, server, name string) *dns.Msg {
	p.t.Helper()
	var conn net.Conn
	p.run(func() (err error) {
		conn, err = net.DialTimeout(network, net.JoinHostPort(server, "53"), 3*time.Second)
		return err
	})
	defer conn.Close()
	c := &dns.Conn{Conn: conn}
	must(p.t, c.SetDeadline(time.Now().Add(3*time.Second)))
	must(p.t, c.WriteMsg(request(name, dns.TypeA, 0)))
	m, err := c.ReadMsg()
	must(p.t, err)
	return m
}

// ours returns the addresses that carry our mark, and others those of lo that do
// not and that are not 127.0.0.1 or ::1.
func onLoopback(t *testing.T) (ours, others []string) {
	t.Helper()
	lo, err := netlink.LinkByName(loopback)
	must(t, err)
	list, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	must(t, err)
	for _, a := range list {
		switch {
		case isOurs(a, lo):
			ours = append(ours, a.IP.String())
		case !a.IP.IsLoopback():
			others = append(others, a.IP.String())
		}
	}
	slices.Sort(ours)
	return ours, others
}

func addToLoopback(t *testing.T, text, label string) {
	t.Helper()
	lo, err := netlink.LinkByName(loopback)
	must(t, err)
	addr, err := netlink.ParseAddr(text)
	must(t, err)
	addr.Label, addr.Flags = label, syscall.IFA_F_NODAD
	must(t, netlink.AddrAdd(lo, addr))
	t.Cleanup(func() { _ = netlink.AddrDel(lo, addr) })
}

func waitForOurs(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	waitFor(t, strings.Join(want, " and ")+" to be what is on lo", func() bool {
		ours, _ := onLoopback(t)
		return slices.Equal(ours, want)
	})
}

// nodeServer makes a Server as a node has it.
func nodeServer(t *testing.T) (*Server, *fakeSnapshots) {
	t.Helper()
	snapshots := &fakeSnapshots{}
	s, err := New(Options{
		Snapshots: snapshots, TTL: 5 * time.Second, Pods: records.PodsInsecure,
		Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	return s, snapshots
}

func TestPodAsksTheNode(t *testing.T) {
	addToLoopback(t, "192.0.2.99/32", "")
	p := newPod(t)
	s, snapshots := nodeServer(t)
	stop := run(t, s)

	waitForOurs(t, "169.254.20.10")
	waitFor(t, "the link-local address", func() bool { return len(s.Serving()) == 1 })
	if m := p.ask("udp", "169.254.20.10", "web.default.svc.cluster.local."); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("before the first snapshot: %v", m)
	}

	for _, ips := range [][]string{{"10.96.0.10"}, {"10.96.0.10", "fd00:10:96::a"}, {"10.96.0.53"}} {
		snapshots.publish(cluster(ips...))
		waitForOurs(t, append([]string{"169.254.20.10"}, ips...)...)
		waitFor(t, "the cluster IPs", func() bool { return len(s.Serving()) == len(ips)+1 })
		for _, ip := range append([]string{"169.254.20.10"}, ips...) {
			for _, network := range []string{"udp", "tcp"} {
				m := p.ask(network, ip, "web.default.svc.cluster.local.")
				wantRecords(t, m, dns.RcodeSuccess, "web.default.svc.cluster.local. 5 IN A 10.96.0.10")
			}
		}
	}
	stop()
	ours, others := onLoopback(t)
	if len(ours) != 0 || !slices.Equal(others, []string{"192.0.2.99"}) {
		t.Errorf("after the end there are %v of ours and %v of others", ours, others)
	}
}

// TestOnlyClientsAreAnswered asks from an address that is of no range that may.
func TestOnlyClientsAreAnswered(t *testing.T) {
	p := newPod(t)
	s, snapshots := nodeServer(t)
	s.opts.ClientRanges = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("192.168.77.2/32")}
	snapshots.publish(cluster("10.96.0.10", "fd00:10:96::a"))
	run(t, s)
	waitFor(t, "all addresses", func() bool { return len(s.Serving()) == 3 })
	for _, network := range []string{"udp", "tcp"} {
		for addr, want := range map[string]int{"10.96.0.10": dns.RcodeSuccess, "fd00:10:96::a": dns.RcodeRefused} {
			for range 2 { // the second time it is kept packed
				if m := p.ask(network, addr, "kube-dns.kube-system.svc.cluster.local."); m.Rcode != want {
					t.Errorf("%s, at %s: %s", network, addr, rcodeText(m.Rcode))
				}
			}
		}
	}
	// The node itself may.
	for _, addr := range s.Serving() {
		if m, _ := ask(t, "udp", addr, request("web.default.svc.cluster.local.", dns.TypeA, 0)); m.Rcode != dns.RcodeSuccess {
			t.Errorf("the node, at %s: %s", addr, rcodeText(m.Rcode))
		}
	}
}

// TestOurAddressesAreNobodysSource checks that the node does not choose one of
// them for packets of its own.
func TestOurAddressesAreNobodysSource(t *testing.T) {
	newPod(t)
	s, snapshots := nodeServer(t)
	run(t, s)
	snapshots.publish(cluster("10.96.0.10", "fd00:10:96::a"))
	waitForOurs(t, "169.254.20.10", "10.96.0.10", "fd00:10:96::a")
	node0, err := netlink.LinkByName("node0")
	must(t, err)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.AddrList(node0, family)
		must(t, err)
		for _, a := range list {
			if !a.IP.IsLinkLocalUnicast() {
				must(t, netlink.AddrDel(node0, &netlink.Addr{IPNet: a.IPNet}))
			}
		}
	}
	// The interface has no address now: the node takes one of another interface, if
	// there is one that it may.
	// In IPv6 ours is the last choice, not none, so there must be another one; it is
	// the worse one but for that.
	addToLoopback(t, "2001:db8::99/128", "")
	for to, via := range map[string]string{"198.51.100.1": "198.51.100.0/24", "fd00:10:51::1": "fd00:10:51::/64"} {
		_, dst, err := net.ParseCIDR(via)
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: node0.Attrs().Index, Dst: dst}))
		routes, err := netlink.RouteGet(net.ParseIP(to))
		if err != nil {
			continue // No address will do at all.
		}
		if ours, _ := onLoopback(t); slices.Contains(ours, routes[0].Src.String()) {
			t.Errorf("the node would send to %s from %v", to, routes[0].Src)
		}
	}
}

func TestWhatAKilledServerLeftIsAdopted(t *testing.T) {
	addToLoopback(t, "10.96.0.10/32", label)
	addToLoopback(t, "10.96.0.99/32", label)
	s, snapshots := nodeServer(t)
	stop := run(t, s)
	waitForOurs(t, "10.96.0.10", "10.96.0.99", "169.254.20.10")
	snapshots.publish(cluster("10.96.0.10"))
	waitForOurs(t, "10.96.0.10", "169.254.20.10")
	waitFor(t, "both addresses", func() bool { return len(s.Serving()) == 2 })
	stop()
	waitForOurs(t)
}

func TestAddressThatSomebodyTookAwayComesBack(t *testing.T) {
	s, snapshots := nodeServer(t)
	run(t, s)
	snapshots.publish(cluster("10.96.0.10"))
	waitFor(t, "both addresses", func() bool { return len(s.Serving()) == 2 })
	lo, err := netlink.LinkByName(loopback)
	must(t, err)
	addr, err := netlink.ParseAddr("10.96.0.10/32")
	must(t, err)
	must(t, netlink.AddrDel(lo, addr))
	waitForOurs(t, "10.96.0.10", "169.254.20.10")
}

// TestAddressOfAnotherInterfaceIsUsedAndLeft listens where the operator says, at
// an address that the node has anyway.
func TestAddressOfAnotherInterfaceIsUsedAndLeft(t *testing.T) {
	p := newPod(t)
	s, snapshots := nodeServer(t)
	s.opts.Listen = []netip.AddrPort{netip.MustParseAddrPort("192.168.77.1:53")}
	stop := run(t, s)
	snapshots.publish(cluster("10.96.0.10"))
	waitFor(t, "the address", func() bool { return slices.Equal(s.Serving(), s.opts.Listen) })
	waitFor(t, "the snapshot", func() bool {
		return p.ask("udp", "192.168.77.1", "web.default.svc.cluster.local.").Rcode == dns.RcodeSuccess
	})
	stop()
	node0, err := netlink.LinkByName("node0")
	must(t, err)
	list, err := netlink.AddrList(node0, netlink.FAMILY_V4)
	must(t, err)
	if len(list) != 1 || list[0].IP.String() != "192.168.77.1" {
		t.Errorf("the interface has %v", list)
	}
}

func TestCleanup(t *testing.T) {
	addToLoopback(t, "192.0.2.99/32", "")
	n := &nodeAddrs{log: slog.New(slog.DiscardHandler)}
	if failed := n.set(parseAddrs("10.96.0.10", "fd00:10:96::a", "169.254.20.10"), true); len(failed) > 0 {
		t.Fatal(failed)
	}
	waitForOurs(t, "10.96.0.10", "fd00:10:96::a", "169.254.20.10")
	for range 2 { // There may be nothing to do.
		must(t, Cleanup(t.Context()))
		ours, others := onLoopback(t)
		if len(ours) != 0 || !slices.Equal(others, []string{"192.0.2.99"}) {
			t.Errorf("there are %v of ours and %v of others", ours, others)
		}
	}
}
