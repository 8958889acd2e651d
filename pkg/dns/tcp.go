package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/packed"
)

// tcpServer accepts connections at one address.
type tcpServer struct {
	server   *Server
	listener *net.TCPListener
	allowed  func(netip.Addr) bool
	meter    *meter
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
		c := &tcpConn{server: t.server, meter: t.meter, conn: conn, client: client, pipeline: make(chan struct{}, t.server.limits.tcpPipeline)}
		wg.Go(func() {
			defer t.server.conns.remove(client)
			defer conn.Close()
			defer context.AfterFunc(open, func() { conn.Close() })()
			t.server.guard(func() {
				c.allowed = t.allowed(client)
				c.serve(ctx)
			})
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
	meter   *meter
	conn    net.Conn
	client  netip.Addr
	allowed bool
	// pipeline holds a token for each request that waits.
	pipeline chan struct{}
	// requests, hot and ready are the reader's alone. In ready are replies that
	// are sent together, once no more requests are there to be read.
	requests *bufio.Reader
	hot      hotQuery
	ready    []byte

	writing sync.Mutex
}

// maxReady is how many octets of replies are sent together, about.
const maxReady = 16 << 10

// serve ends when the client closes or breaks the rules, and then waits for the
// answers that are due.
func (c *tcpConn) serve(ctx context.Context) {
	c.server.metrics.tcpConns.Inc()
	defer c.server.metrics.tcpConns.Dec()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.flush()
	c.requests = bufio.NewReaderSize(c.conn, maxRequest+2)
	for {
		if (!c.isRequestThere() || len(c.ready) >= maxReady) && !c.flush() {
			return
		}
		wire, err := c.read()
		if err != nil || !c.handle(ctx, wire, &wg) {
			return
		}
	}
}

// maxRequest is the longest request that is read, in octets. One question and an
// OPT record with padding are far shorter.
const maxRequest = 4096

var errTooLong = errors.New("request is too long")

// isRequestThere reports whether read would not have to wait.
func (c *tcpConn) isRequestThere() bool {
	if c.requests.Buffered() < 2 {
		return false
	}
	size, err := c.requests.Peek(2)
	return err == nil && c.requests.Buffered() >= 2+int(binary.BigEndian.Uint16(size))
}

// read returns the next request, which is valid until it is called again.
func (c *tcpConn) read() ([]byte, error) {
	size, err := c.await(2, c.server.limits.tcpIdle)
	if err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(size))
	if n > maxRequest {
		return nil, errTooLong
	}
	return c.await(n, c.server.limits.tcpRead)
}

// await takes the next n octets, which must come within limit.
func (c *tcpConn) await(n int, limit time.Duration) ([]byte, error) {
	if c.requests.Buffered() < n {
		if err := c.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return nil, err
		}
	}
	out, err := c.requests.Peek(n)
	if err != nil {
		return nil, err
	}
	_, err = c.requests.Discard(n)
	return out, err
}

// handle answers one request from what is kept packed, or else as slowly as it
// takes. It returns false to end the connection.
func (c *tcpConn) handle(ctx context.Context, wire []byte, wg *sync.WaitGroup) bool {
	start := time.Now()
	book := c.server.book.Load()
	wanted := false
	if c.allowed && c.hot.parse(wire) {
		c.hot.asked.Limit = maxTCPSize
		r, elsewhere := c.hot.find(book)
		if c.server.isForAll(c.client, c.hot.qtype, r, elsewhere) &&
			(r != nil && c.hit(book, r, start, len(wire)) || elsewhere && c.cached(start, len(wire))) {
			return true
		}
		wanted = r == nil && !elsewhere
	}
	open, fromSnapshot := c.handleSlowly(ctx, wire, start, wg)
	if fromSnapshot && wanted {
		book.Pack(c.hot.name, c.hot.qtype)
	}
	return open
}

// hit makes the reply from what is kept packed, and reports whether it did.
func (c *tcpConn) hit(book *packed.Book, r *packed.Reply, start time.Time, size int) bool {
	c.hot.asked.Chance = rand.Uint32()
	out, ok := book.Append(append(c.ready, 0, 0), r, &c.hot.asked)
	if ok {
		c.meter.hit(r.Rcode(), c.add(out, start, size))
	}
	return ok
}

// cached does so from the cache of the forwarder.
func (c *tcpConn) cached(start time.Time, size int) bool {
	out, rcode, ok := c.hot.cached(append(c.ready, 0, 0), c.server.forwarder, start)
	if ok {
		c.meter.cached(rcode, c.add(out, start, size))
	}
	return ok
}

// add makes out, which is what was ready and one more reply behind room for its
// length, what is ready.
func (c *tcpConn) add(out []byte, start time.Time, size int) measured {
	at := len(c.ready)
	length := len(out) - at - 2
	binary.BigEndian.PutUint16(out[at:], uint16(length))
	c.ready = out
	return measured{c.hot.qtype, c.hot.asked.DNSSEC, time.Since(start), size, length}
}

// handleSlowly answers one request. open is false to end the connection,
// fromSnapshot true if nobody else had to be asked.
func (c *tcpConn) handleSlowly(ctx context.Context, wire []byte, start time.Time, wg *sync.WaitGroup) (open, fromSnapshot bool) {
	q, rcode, ok := parseQuery(wire)
	if !ok {
		c.server.metrics.dropped.WithLabelValues("malformed").Inc()
		return false, false
	}
	if rcode == dns.RcodeSuccess && !c.allowed {
		rcode = dns.RcodeRefused
	}
	x := &exchange{server: c.server, meter: c.meter, query: q, client: c.client, size: len(wire), start: start, source: sourceRefused}
	if rcode != dns.RcodeSuccess {
		x.refuse(rcode)
		return c.send(x), false
	}
	x.begin(rand.Uint32())
	if x.wait == nil {
		return c.send(x), x.source == sourceCluster
	}
	// A client that asks more than it may have waiting is not read on.
	if !c.flush() {
		return false, false
	}
	c.pipeline <- struct{}{}
	wg.Add(1)
	started := c.server.waiters.start(c.client, func() {
		defer func() { <-c.pipeline; wg.Done() }()
		x.finish(ctx)
		c.send(x)
	})
	if started {
		return true, false
	}
	<-c.pipeline
	wg.Done()
	x.source = sourceRefused
	x.refuse(dns.RcodeRefused)
	return c.send(x), false
}

// send writes the reply and reports whether the connection is still of use.
func (c *tcpConn) send(x *exchange) bool {
	wire, _ := x.pack(maxTCPSize, nil)
	if wire == nil {
		return false
	}
	return c.write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(wire)+2), uint16(len(wire))), wire...))
}

// flush writes the replies that are ready, and reports whether the connection is
// still of use.
func (c *tcpConn) flush() bool {
	if len(c.ready) == 0 {
		return true
	}
	ok := c.write(c.ready)
	if c.ready = c.ready[:0]; cap(c.ready) > 2*maxReady {
		c.ready = nil // connections that were asked for much once do not keep the room
	}
	return ok
}

func (c *tcpConn) write(framed []byte) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.server.limits.tcpWrite)); err != nil {
		return false
	}
	_, err := c.conn.Write(framed)
	return err == nil
}
