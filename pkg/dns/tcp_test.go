package dns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func dialTCP(t *testing.T, addr netip.AddrPort) *dns.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr.String(), 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &dns.Conn{Conn: conn}
}

func send(t *testing.T, c *dns.Conn, m *dns.Msg) {
	t.Helper()
	if err := c.WriteMsg(m); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c *dns.Conn) *dns.Msg {
	t.Helper()
	m, err := c.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantClosed waits for the end of the connection.
func wantClosed(t *testing.T, c *dns.Conn) {
	t.Helper()
	if n, err := c.Conn.Read(make([]byte, 1)); n != 0 || isTimeout(err) {
		t.Errorf("the connection is still open: %d octets, %v", n, err)
	}
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func TestAnswersOvertakeEachOther(t *testing.T) {
	u := startUpstream(t)
	_, _, addr := startServer(t, u.option)
	release := u.holdAnswers(t)
	c := dialTCP(t, addr)
	slow, fast := request("www.example.org.", dns.TypeA, 0), request("web.default.svc.cluster.local.", dns.TypeA, 0)
	send(t, c, slow)
	send(t, c, fast)
	if m := receive(t, c); m.Id != fast.Id {
		t.Fatalf("first came %v", m)
	}
	release()
	m := receive(t, c)
	wantRecords(t, m, dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
	if m.Id != slow.Id {
		t.Errorf("second came %v", m)
	}
}

// TestClientThatSendsNoMore half-closes, and still gets what it has asked for.
func TestClientThatSendsNoMore(t *testing.T) {
	u := startUpstream(t)
	_, _, addr := startServer(t, u.option)
	release := u.holdAnswers(t)
	c := dialTCP(t, addr)
	send(t, c, request("www.example.org.", dns.TypeA, 0))
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the upstream to be asked", func() bool { return u.asked("www.example.org.") > 0 })
	release()
	wantRecords(t, receive(t, c), dns.RcodeSuccess, "www.example.org. 60 IN A 192.0.2.1")
	wantClosed(t, c)
}

func TestConnectionsThatEnd(t *testing.T) {
	s, _ := newServer(t, nil)
	s.limits.tcpIdle, s.limits.tcpRead = 100*time.Millisecond, 50*time.Millisecond
	run(t, s)
	waitFor(t, "the server to listen", func() bool { return len(s.Serving()) > 0 })
	for name, octets := range map[string][]byte{
		"silent":               nil,
		"stops in a request":   {0, 40, 1, 2, 3},
		"announces too much":   {0xff, 0xff},
		"sends a response":     append([]byte{0, 12}, 0, 1, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0),
		"sends nothing useful": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTCP(t, s.Serving()[0])
			if _, err := c.Conn.Write(octets); err != nil {
				t.Fatal(err)
			}
			wantClosed(t, c)
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	s, _ := newServer(t, nil)
	s.limits.tcpConnsPerClient = 2
	run(t, s)
	waitFor(t, "the server to listen", func() bool { return len(s.Serving()) > 0 })
	addr := s.Serving()[0]
	works := func(c *dns.Conn) bool {
		if c.WriteMsg(request("web.default.svc.cluster.local.", dns.TypeA, 0)) != nil {
			return false
		}
		_, err := c.ReadMsg()
		return err == nil
	}
	first, second := dialTCP(t, addr), dialTCP(t, addr)
	if !works(first) || !works(second) {
		t.Fatal("two connections do not work")
	}
	if works(dialTCP(t, addr)) {
		t.Error("a third connection works")
	}
	first.Close()
	waitFor(t, "a connection to become free", func() bool { return works(dialTCP(t, addr)) })
}

func TestConnectionsEndWithTheServer(t *testing.T) {
	s, _ := newServer(t, nil)
	stop := run(t, s)
	waitFor(t, "the server to listen", func() bool { return len(s.Serving()) > 0 })
	c := dialTCP(t, s.Serving()[0])
	send(t, c, request("web.default.svc.cluster.local.", dns.TypeA, 0))
	receive(t, c)
	stop()
	if _, err := c.Conn.Read(make([]byte, 1)); isTimeout(err) {
		t.Errorf("the connection outlived the server: %v", err)
	}
}
