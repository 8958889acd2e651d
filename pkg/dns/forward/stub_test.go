package forward

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// stubServer is an upstream on a loopback address, over UDP and TCP.
type stubServer struct {
	addr     netip.AddrPort
	udp, tcp atomic.Int64 // requests that came
}

// handler sends what it will as the answer to r; overTCP tells how it came.
type handler func(w dns.ResponseWriter, r *dns.Msg, overTCP bool)

func startStub(tb testing.TB, h handler) *stubServer {
	tb.Helper()
	udp, tcp := listenBoth(tb)
	s := &stubServer{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort()}
	count := func(n *atomic.Int64, overTCP bool) dns.HandlerFunc {
		return func(w dns.ResponseWriter, r *dns.Msg) { n.Add(1); h(w, r, overTCP) }
	}
	for _, server := range []*dns.Server{
		{PacketConn: udp, Handler: count(&s.udp, false)},
		{Listener: tcp, Handler: count(&s.tcp, true)},
	} {
		started, done := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { done <- server.ActivateAndServe() }()
		<-started
		tb.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-done); err != nil {
				tb.Error(err)
			}
		})
	}
	return s
}

// listenBoth listens on the same port over UDP and TCP. The kernel chooses one that
// is free for UDP only, so it may take several attempts.
func listenBoth(tb testing.TB) (*net.UDPConn, *net.TCPListener) {
	tb.Helper()
	for attempt := 0; ; attempt++ {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			tb.Fatal(err)
		}
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(udp.LocalAddr().(*net.UDPAddr).AddrPort()))
		if err == nil {
			return udp, tcp
		}
		udp.Close()
		if attempt == 20 {
			tb.Fatal(err)
		}
	}
}

// reply answers r with the records in texts.
func reply(tb testing.TB, r *dns.Msg, rcode int, texts ...string) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(r, rcode)
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			tb.Error(err)
			continue
		}
		if _, ok := rr.(*dns.SOA); ok {
			m.Ns = append(m.Ns, rr)
		} else {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

// always answers each question with the same records.
func always(tb testing.TB, rcode int, texts ...string) handler {
	return func(w dns.ResponseWriter, r *dns.Msg, _ bool) { _ = w.WriteMsg(reply(tb, r, rcode, texts...)) }
}

// silent answers nothing.
func silent(dns.ResponseWriter, *dns.Msg, bool) {}

func newForwarder(tb testing.TB, edit func(*Options), servers ...*stubServer) *Forwarder {
	tb.Helper()
	o := Options{Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
	for _, s := range servers {
		o.Upstreams = append(o.Upstreams, s.addr.String())
	}
	if edit != nil {
		edit(&o)
	}
	f, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	f.attempts.timeout = 300 * time.Millisecond
	tb.Cleanup(f.background.stop)
	return f
}

// unusedAddr returns a loopback address that nobody listens at.
func unusedAddr(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}
