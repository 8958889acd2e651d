package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// tcpServer accepts connections at one address.
type tcpServer struct {
	server   *Server
	listener *net.TCPListener
	allowed  func(netip.Addr) bool
}

// serve accepts until the listener is closed, which is no error, and returns
// when all its connections have ended.
func (t *tcpServer) serve(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	// Questions that are asked meanwhile may be asked for others, too: only the
	// connections end with the listener.
	open, closeAll := context.WithCancel(ctx)
	defer closeAll()
	for {
		conn, err := t.listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
			// Connections that end make room again; what comes by UDP needs none.
			t.server.metrics.dropped.WithLabelValues("too many connections").Inc()
			pause(ctx, acceptPause)
			continue
		case err != nil:
			return err
		}
		client := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !t.server.conns.add(client) {
			t.server.metrics.dropped.WithLabelValues("too many connections").Inc()
			conn.Close()
			continue
		}
		c := &tcpConn{server: t.server, conn: conn, client: client, allowed: t.allowed(client), pipeline: make(chan struct{}, t.server.limits.tcpPipeline)}
		wg.Go(func() {
			defer t.server.conns.remove(client)
			defer conn.Close()
			defer context.AfterFunc(open, func() { conn.Close() })()
			t.server.guard(func() { c.serve(ctx) })
		})
	}
}

// acceptPause is how long to wait for a file descriptor to become free.
const acceptPause = 100 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// tcpConn is one connection. Requests on it are read on while others wait for
// their answers, which are sent in the order in which they are ready (RFC 7766).
type tcpConn struct {
	server  *Server
	conn    net.Conn
	client  netip.Addr
	allowed bool
	// pipeline holds a token for each request that waits.
	pipeline chan struct{}

	writing sync.Mutex
}

// serve ends when the client closes or breaks the rules, and then waits for the
// answers that are due.
func (c *tcpConn) serve(ctx context.Context) {
	c.server.metrics.tcpConns.Inc()
	defer c.server.metrics.tcpConns.Dec()
	var wg sync.WaitGroup
	defer wg.Wait()
	r := bufio.NewReader(c.conn)
	for {
		wire, err := c.read(r)
		if err != nil {
			return
		}
		c.server.metrics.requests.WithLabelValues("tcp").Inc()
		if !c.handle(ctx, wire, &wg) {
			return
		}
	}
}

var errTooLong = errors.New("request is too long")

func (c *tcpConn) read(r *bufio.Reader) ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(c.server.limits.tcpIdle)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxRequest {
		return nil, errTooLong
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(c.server.limits.tcpRead)); err != nil {
		return nil, err
	}
	wire := make([]byte, n)
	_, err := io.ReadFull(r, wire)
	return wire, err
}

// handle answers one request, and returns false to end the connection.
func (c *tcpConn) handle(ctx context.Context, wire []byte, wg *sync.WaitGroup) bool {
	q, rcode, ok := parseQuery(wire)
	if !ok {
		c.server.metrics.dropped.WithLabelValues("not a query").Inc()
		return false
	}
	if rcode == dns.RcodeSuccess && !c.allowed {
		rcode = dns.RcodeRefused
	}
	x := &exchange{server: c.server, query: q, client: c.client, start: time.Now(), source: sourceRefused}
	if rcode != dns.RcodeSuccess {
		x.refuse(rcode)
		return c.send(x)
	}
	x.begin(rand.Uint32())
	if x.wait == nil {
		return c.send(x)
	}
	// A client that asks more than it may have waiting is not read on.
	c.pipeline <- struct{}{}
	wg.Add(1)
	started := c.server.waiters.start(func() {
		defer func() { <-c.pipeline; wg.Done() }()
		x.finish(ctx)
		c.send(x)
	})
	if started {
		return true
	}
	<-c.pipeline
	wg.Done()
	x.source = sourceRefused
	x.refuse(dns.RcodeRefused)
	return c.send(x)
}

// send writes the reply and reports whether the connection is still of use.
func (c *tcpConn) send(x *exchange) bool {
	wire, _ := x.pack(maxTCPSize, nil)
	if wire == nil {
		return false
	}
	framed := append(binary.BigEndian.AppendUint16(make([]byte, 0, len(wire)+2), uint16(len(wire))), wire...)
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.server.limits.tcpWrite)); err != nil {
		return false
	}
	_, err := c.conn.Write(framed)
	return err == nil
}
