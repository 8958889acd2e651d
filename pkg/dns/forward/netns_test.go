//go:build netns

package forward

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestAnswersInFragmentsAreFetchedOverTCP has a network whose packets are smaller
// than an answer. Only the first fragment of a datagram carries ID, port and name:
// who sends the second one in the upstream's place has nothing to guess.
func TestAnswersInFragmentsAreFetchedOverTCP(t *testing.T) {
	// The thread is in a network of its own from here on, and ends with the test.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("This test needs to make a network namespace: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.LinkSetMTU(lo, 600), netlink.LinkSetUp(lo)); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for i := range 30 {
		texts = append(texts, fmt.Sprintf("www.example.org. 60 IN A 192.0.2.%d", i))
	}
	s := startStub(t, always(t, dns.RcodeSuccess, texts...))
	small := startStub(t, always(t, dns.RcodeSuccess, texts[0]))
	f := newForwarder(t, nil)
	k, _, _ := www().key()
	// Not through Resolve: its goroutines have other threads.
	m, err := f.exchange(t.Context(), f.upstreams.get(s.addr), k)
	if err != nil || len(m.Answer) != 30 {
		t.Fatalf("no answer: %v", err)
	}
	if s.udp.Load() != 1 || s.tcp.Load() != 1 {
		t.Errorf("asked %d times over UDP and %d times over TCP, want once each", s.udp.Load(), s.tcp.Load())
	}
	if _, err := f.exchange(t.Context(), f.upstreams.get(small.addr), k); err != nil || small.tcp.Load() != 0 {
		t.Errorf("an answer in one piece: %v, %d requests over TCP", err, small.tcp.Load())
	}
}
