package dns

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// freeAddr returns an address of 127.0.0.1 that nobody listens at.
func freeAddr(tb testing.TB) netip.AddrPort {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestClusterIPsAreFollowed(t *testing.T) {
	s, snapshots := newServer(t, func(o *Options) { o.Listen = nil })
	s.port = freeAddr(t).Port()
	snapshots.current = nil
	stop := run(t, s)
	serves := func(ips ...string) func() bool {
		var want []netip.AddrPort
		for _, ip := range ips {
			want = append(want, netip.AddrPortFrom(netip.MustParseAddr(ip), s.port))
		}
		return func() bool { return slices.Equal(s.Serving(), want) }
	}
	for _, ips := range [][]string{{"127.0.0.2"}, {"127.0.0.2", "127.0.0.3"}, {"127.0.0.3"}, nil, {"127.0.0.4"}} {
		snapshots.publish(cluster(ips...))
		waitFor(t, strings.Join(ips, " and ")+" to be served", serves(ips...))
		for _, addr := range s.Serving() {
			m, _ := ask(t, "udp", addr, request("web.default.svc.cluster.local.", dns.TypeA, 0))
			wantRecords(t, m, dns.RcodeSuccess, "web.default.svc.cluster.local. 5 IN A 10.96.0.10")
		}
	}
	if err := s.Ready(); err != nil {
		t.Errorf("Ready() = %v", err)
	}
	stop()
	if err := s.Ready(); !errors.Is(err, errStopped) {
		t.Errorf("Ready() = %v after the end", err)
	}
	if len(s.Serving()) != 0 {
		t.Errorf("after the end it serves %v", s.Serving())
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 4), Port: int(s.port)})
	if err != nil {
		t.Fatalf("its socket is still there: %v", err)
	}
	conn.Close()
}

func TestNodeAddressesAnswerForPeers(t *testing.T) {
	peerPort := freeAddr(t).Port()
	s, snapshots := newServer(t, func(o *Options) { o.PeerPort = peerPort })
	run(t, s)
	next := cluster()
	next.Node.Addrs = parseAddrs("127.0.0.7")
	snapshots.publish(next)
	peer := netip.AddrPortFrom(next.Node.Addrs[0], peerPort)
	waitFor(t, "the peer address", func() bool { return slices.Contains(s.Serving(), peer) })
	bothWays(t, func(t *testing.T, network string) {
		m, _ := ask(t, network, peer, request("web.default.svc.cluster.local.", dns.TypeA, 0))
		wantRecords(t, m, dns.RcodeSuccess, "web.default.svc.cluster.local. 5 IN A 10.96.0.10")
	})
}

func TestOneAddressCannotBeHad(t *testing.T) {
	taken, free := freeAddr(t), freeAddr(t)
	holder, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(taken))
	if err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	s, _ := newServer(t, func(o *Options) {
		o.Listen = []netip.AddrPort{taken, free}
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	run(t, s)
	waitFor(t, "the free address", func() bool { return slices.Equal(s.Serving(), []netip.AddrPort{free}) })
	m, _ := ask(t, "tcp", free, request("web.default.svc.cluster.local.", dns.TypeA, 0))
	wantRecords(t, m, dns.RcodeSuccess, "web.default.svc.cluster.local. 5 IN A 10.96.0.10")
	waitFor(t, "a log line", func() bool {
		return strings.Contains(log.String(), taken.String()) && strings.Contains(log.String(), "address already in use")
	})
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), taken.String()) {
		t.Errorf("Ready() = %v, want an error that names %v", err, taken)
	}
	holder.Close()
	waitFor(t, "the other address", func() bool { return len(s.Serving()) == 2 })
	if err := s.Ready(); err != nil {
		t.Errorf("Ready() = %v", err)
	}
	if n := strings.Count(log.String(), "cannot answer"); n != 1 {
		t.Errorf("%d log lines about one error:\n%s", n, log.String())
	}
}

// TestSocketThatBreaksIsReplaced closes one of an address's sockets under the
// server's hands.
func TestSocketThatBreaksIsReplaced(t *testing.T) {
	s, _ := newServer(t, nil)
	s.publish(time.Now())
	b := newBindings(s)
	ctx := t.Context()
	s.waiters = newWaiters(s.limits.waiting, s.metrics.waiting, s.guard)
	now := time.Now()
	b.reconcile(ctx, now)
	var broken *listener
	for _, sl := range b.slots {
		broken = sl.listener
	}
	err := net.ErrWriteToConnected
	broken.failure.Store(&err)
	b.reconcile(ctx, now)
	if len(s.Serving()) != 0 {
		t.Errorf("serves %v with a broken socket", s.Serving())
	}
	b.reconcile(ctx, now.Add(firstRetry))
	if len(s.Serving()) != 1 {
		t.Errorf("serves %v after the pause", s.Serving())
	}
	if err := b.close(func() {}); err != nil {
		t.Error(err)
	}
}
