package dns

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/packed"
)

// udpSocket is one of the sockets of an address, with the memory that its reader
// works in.
type udpSocket struct {
	server  *Server
	conn    *net.UDPConn
	allowed func(netip.Addr) bool
	meter   *meter
	*datagrams
	shares shares
	// queuedFor are the clients of the replies that are queued.
	queuedFor [batchLen]netip.Addr
	hot       hotQuery
	// scratch is for replies that are not sent as they are kept.
	scratch [4096]byte
	// now is the time at which what is being handled was begun.
	now time.Time
}

func newUDPSocket(s *Server, conn *net.UDPConn, at netip.AddrPort, allowed func(netip.Addr) bool) (*udpSocket, error) {
	d, err := newDatagrams(conn)
	if err != nil {
		return nil, err
	}
	return &udpSocket{server: s, conn: conn, allowed: allowed, meter: s.metrics.meter(at, "udp"), datagrams: d}, nil
}

// serve reads and answers until the socket is closed, which is no error.
func (u *udpSocket) serve(ctx context.Context) error {
	for {
		err := u.receive()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		u.shares.pressed = u.pressed
		u.now = time.Now()
		for i := range u.received {
			u.server.guard(func() { u.handle(ctx, i) })
		}
		u.send()
	}
}

// send sends what is queued. That is most of the work that hits make.
func (u *udpSocket) send() {
	n := u.queued
	if n == 0 {
		return
	}
	if lost := u.flush(); lost > 0 {
		u.server.metrics.dropped.WithLabelValues("cannot send").Add(float64(lost))
	}
	done := time.Now()
	each := done.Sub(u.now) / time.Duration(n)
	for _, client := range u.queuedFor[:n] {
		u.shares.use(client, each)
	}
	u.now = done
}

// handle answers one request, if its client may have an answer now.
func (u *udpSocket) handle(ctx context.Context, i int) {
	client := u.client(i)
	addr := client.Addr().Unmap()
	wire, whole := u.request(i)
	switch {
	case u.shares.spent(addr, u.now):
		u.server.metrics.overShare.Inc()
		return
	case !whole:
		u.server.metrics.dropped.WithLabelValues("too long").Inc()
		return
	}
	u.queuedFor[u.queued] = addr
	u.answer(ctx, i, wire, client)
	done := time.Now()
	u.shares.use(addr, done.Sub(u.now))
	u.now = done
}

// answer answers from what is kept packed or cached, or else as slowly as it takes.
func (u *udpSocket) answer(ctx context.Context, i int, wire []byte, client netip.AddrPort) {
	book := u.server.book.Load()
	wanted := false
	if u.hot.parse(wire) && u.allowed(client.Addr().Unmap()) {
		r, elsewhere := u.hot.find(book)
		if u.server.isForAll(client.Addr().Unmap(), u.hot.qtype, r, elsewhere) &&
			(r != nil && u.hit(book, r, i, len(wire)) || elsewhere && u.cached(i, len(wire))) {
			return
		}
		wanted = r == nil && !elsewhere
	}
	u.send() // what is ready does not wait for what takes longer
	if u.answerSlowly(ctx, wire, client) && wanted {
		book.Pack(u.hot.name, u.hot.qtype)
	}
}

// hit answers the request from what is kept packed, and reports whether it did. It
// takes no lock and allocates nothing.
func (u *udpSocket) hit(book *packed.Book, r *packed.Reply, i, size int) bool {
	u.hot.asked.Chance = rand.Uint32()
	wire, ok := book.Append(u.reply(), r, &u.hot.asked)
	if !ok {
		return false
	}
	u.queue(i, wire)
	u.meter.hit(r.Rcode(), measured{u.hot.qtype, u.hot.asked.DNSSEC, time.Since(u.now), size, len(wire)})
	return true
}

// cached answers the request from the cache of the forwarder, and reports whether it did.
// It takes no lock and allocates nothing.
func (u *udpSocket) cached(i, size int) bool {
	wire, rcode, ok := u.hot.cached(u.reply(), u.server.forwarder, u.now)
	if !ok {
		return false
	}
	u.queue(i, wire)
	u.meter.cached(rcode, measured{u.hot.qtype, u.hot.asked.DNSSEC, time.Since(u.now), size, len(wire)})
	return true
}

// answerSlowly answers one request, or hands it to a goroutine if it has to wait.
// It reports whether it was answered from the Snapshot.
func (u *udpSocket) answerSlowly(ctx context.Context, wire []byte, client netip.AddrPort) bool {
	q, rcode, ok := parseQuery(wire)
	if !ok {
		u.server.metrics.dropped.WithLabelValues("malformed").Inc()
		return false
	}
	if rcode == dns.RcodeSuccess && !u.allowed(client.Addr().Unmap()) {
		rcode = dns.RcodeRefused
	}
	x := &exchange{server: u.server, meter: u.meter, query: q, client: client.Addr().Unmap(), size: len(wire), start: u.now, source: sourceRefused}
	if rcode != dns.RcodeSuccess {
		x.refuse(rcode)
		u.write(x, client, u.scratch[:])
		return false
	}
	x.begin(rand.Uint32())
	if x.wait == nil {
		u.write(x, client, u.scratch[:])
		return x.source == sourceCluster
	}
	started := u.server.waiters.start(x.client, func() {
		x.finish(ctx)
		u.write(x, client, nil)
	})
	if !started {
		x.source = sourceRefused
		x.refuse(dns.RcodeRefused)
		u.write(x, client, u.scratch[:])
	}
	return false
}

// write sends the reply at once. It may be called by any goroutine with a buffer of
// its own. That the client is gone, or the socket closed meanwhile, is nobody's concern.
func (u *udpSocket) write(x *exchange, client netip.AddrPort, buf []byte) {
	wire, _ := x.pack(x.query.maxUDP(), buf)
	if wire == nil {
		return
	}
	if _, err := u.conn.WriteToUDPAddrPort(wire, client); err != nil && !errors.Is(err, net.ErrClosed) {
		u.server.metrics.dropped.WithLabelValues("cannot send").Inc()
	}
}
