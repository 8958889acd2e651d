package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
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
		u.server.metrics.requests.WithLabelValues("udp").Inc()
		u.server.guard(func() { u.handle(ctx, u.in[:n], client) })
	}
}

// handle answers one request, or hands it to a goroutine if it has to wait.
func (u *udpSocket) handle(ctx context.Context, wire []byte, client netip.AddrPort) {
	q, rcode, ok := parseQuery(wire)
	if !ok {
		u.server.metrics.dropped.WithLabelValues("not a query").Inc()
		return
	}
	if rcode == dns.RcodeSuccess && !u.allowed(client.Addr().Unmap()) {
		rcode = dns.RcodeRefused
	}
	x := &exchange{server: u.server, query: q, start: time.Now(), source: sourceRefused}
	if rcode != dns.RcodeSuccess {
		x.refuse(rcode)
		u.send(x, client, u.out[:])
		return
	}
	x.begin()
	if x.wait == nil {
		u.send(x, client, u.out[:])
		return
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
}

// send writes the reply. That the client is gone, or the socket closed meanwhile,
// is nobody's concern.
func (u *udpSocket) send(x *exchange, client netip.AddrPort, buf []byte) {
	wire, _ := x.pack(x.query.maxUDP(), buf)
	if wire == nil {
		return
	}
	if _, err := u.conn.WriteToUDPAddrPort(wire, client); err != nil && !errors.Is(err, net.ErrClosed) {
		u.server.metrics.dropped.WithLabelValues("cannot send").Inc()
	}
}
