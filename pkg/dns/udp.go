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

// maxRequest is the longest request that is read, in octets. One question and an
// OPT record with padding are far shorter.
const maxRequest = 4096

// udpSocket is one of the sockets of an address, with the memory that its reader
// works in.
type udpSocket struct {
	server  *Server
	conn    *net.UDPConn
	allowed func(netip.Addr) bool
	in      [maxRequest]byte
	out     [4096]byte
	hot     hotQuery
}

// serve reads and answers until the socket is closed, which is no error.
func (u *udpSocket) serve(ctx context.Context) error {
	for {
		n, client, err := u.conn.ReadFromUDPAddrPort(u.in[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return err
		}
		u.server.metrics.hot.requests.Inc()
		u.server.guard(func() { u.handle(ctx, u.in[:n], client) })
	}
}

// handle answers one request from what is kept packed, or else as slowly as it
// takes.
func (u *udpSocket) handle(ctx context.Context, wire []byte, client netip.AddrPort) {
	start := time.Now()
	book := u.server.book.Load()
	known := true
	if u.hot.parse(wire) && u.allowed(client.Addr().Unmap()) {
		var r *packed.Reply
		r, known = u.hot.find(book)
		walked := r != nil && r.Rcode() == dns.RcodeNameError && u.server.searcher.mayWalk(client.Addr().Unmap(), u.hot.qtype)
		if r != nil && !walked && u.hit(book, r, client, start) {
			return
		}
	}
	if u.handleSlow(ctx, wire, client, start) && !known {
		book.Pack(u.hot.name, u.hot.qtype)
	}
}

// handleSlow answers one request, or hands it to a goroutine if it has to wait. It
// reports whether it was answered from the Snapshot.
func (u *udpSocket) handleSlow(ctx context.Context, wire []byte, client netip.AddrPort, start time.Time) bool {
	q, rcode, ok := parseQuery(wire)
	if !ok {
		u.server.metrics.dropped.WithLabelValues("not a query").Inc()
		return false
	}
	if rcode == dns.RcodeSuccess && !u.allowed(client.Addr().Unmap()) {
		rcode = dns.RcodeRefused
	}
	x := &exchange{server: u.server, query: q, client: client.Addr().Unmap(), start: start, source: sourceRefused}
	if rcode != dns.RcodeSuccess {
		x.refuse(rcode)
		u.send(x, client, u.out[:])
		return false
	}
	x.begin(rand.Uint32())
	if x.wait == nil {
		u.send(x, client, u.out[:])
		return x.source == sourceCluster
	}
	started := u.server.waiters.start(func() {
		x.finish(ctx)
		u.send(x, client, nil)
	})
	if !started {
		x.source = sourceRefused
		x.refuse(dns.RcodeRefused)
		u.send(x, client, u.out[:])
	}
	return false
}

// send writes the reply.
func (u *udpSocket) send(x *exchange, client netip.AddrPort, buf []byte) {
	wire, _ := x.pack(x.query.maxUDP(), buf)
	if wire != nil {
		u.write(wire, client)
	}
}

// write sends what is packed. That the client is gone, or the socket closed
// meanwhile, is nobody's concern.
func (u *udpSocket) write(wire []byte, client netip.AddrPort) {
	if _, err := u.conn.WriteToUDPAddrPort(wire, client); err != nil && !errors.Is(err, net.ErrClosed) {
		u.server.metrics.dropped.WithLabelValues("cannot send").Inc()
	}
}
