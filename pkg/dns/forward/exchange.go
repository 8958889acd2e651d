package forward

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// udpSize is the largest datagram that upstreams are asked to send: one that
	// is not cut into fragments on the way.
	udpSize = 1232
	// udpBuffer is the largest datagram that is taken nevertheless. Some
	// upstreams send more than they are asked for.
	udpBuffer = 8192
)

var udpBuffers = sync.Pool{New: func() any { b := make([]byte, udpBuffer); return &b }}

// errCut means that the answer did not fit a datagram.
var errCut = errors.New("the answer was cut")

// exchange asks addr over UDP, and over TCP if the answer does not fit. An
// upstream too old for EDNS is asked again without.
func (f *Forwarder) exchange(ctx context.Context, addr netip.AddrPort, q Query) (*dns.Msg, error) {
	m, err := f.exchangeOnce(ctx, addr, newRequest(q, true))
	if err == nil && m.Rcode == dns.RcodeFormatError && !q.DNSSEC {
		m, err = f.exchangeOnce(ctx, addr, newRequest(q, false))
	}
	if err != nil {
		return nil, err
	}
	m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
	return m, nil
}

func (f *Forwarder) exchangeOnce(ctx context.Context, addr netip.AddrPort, request *dns.Msg) (*dns.Msg, error) {
	wire, err := request.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	m, err := f.overUDP(ctx, addr, request, wire)
	if errors.Is(err, errCut) {
		return overTCP(ctx, addr, request, wire)
	}
	return m, err
}

// newRequest asks for the AD bit always: whether the client sees it is decided
// by the server, and the cache serves those who want it and those who do not.
func newRequest(q Query, edns bool) *dns.Msg {
	m := &dns.Msg{
		MsgHdr:   dns.MsgHdr{Id: newID(), RecursionDesired: q.RecursionDesired, CheckingDisabled: q.CheckingDisabled, AuthenticatedData: true},
		Question: []dns.Question{{Name: q.Name, Qtype: q.Type, Qclass: dns.ClassINET}},
	}
	if edns {
		m.SetEdns0(udpSize, q.DNSSEC)
	}
	return m
}

func newID() uint16 {
	var b [2]byte
	// It never fails; see crypto/rand.
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint16(b[:])
}

// overUDP sends from a new socket, so that the kernel draws a random port, and
// that is connected, so that the kernel drops what comes from elsewhere.
func (f *Forwarder) overUDP(ctx context.Context, addr netip.AddrPort, request *dns.Msg, wire []byte) (*dns.Msg, error) {
	conn, err := dial(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer interruptible(ctx, conn)()
	if _, err := conn.Write(wire); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	buf := udpBuffers.Get().(*[]byte)
	defer udpBuffers.Put(buf)
	for {
		n, err := conn.Read(*buf)
		if err != nil {
			return nil, fmt.Errorf("receive: %w", err)
		}
		m, ok := f.accept((*buf)[:n], request)
		switch {
		case !ok:
			f.metrics.ignored.Inc()
		case m.Truncated:
			return nil, errCut
		default:
			return m, nil
		}
	}
}

func overTCP(ctx context.Context, addr netip.AddrPort, request *dns.Msg, wire []byte) (*dns.Msg, error) {
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer interruptible(ctx, conn)()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	if _, err := conn.Write(framed); err != nil {
		return nil, fmt.Errorf("send over TCP: %w", err)
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, fmt.Errorf("receive over TCP: %w", err)
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, fmt.Errorf("receive over TCP: %w", err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(buf); err != nil {
		return nil, fmt.Errorf("response over TCP: %w", err)
	}
	if !answers(m, request) {
		return nil, errors.New("response over TCP: it answers another question")
	}
	return m, nil
}

// dial connects and sets the deadline of ctx.
func dial(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
	return conn, nil
}

// interruptible ends what waits on conn when ctx ends, until what it returns is
// called.
func interruptible(ctx context.Context, conn net.Conn) func() bool {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// accept reads a datagram and reports whether it is the answer to request. One
// that fills the buffer, or is the answer by its beginning but cut in the middle
// of a record, counts as truncated.
func (f *Forwarder) accept(wire []byte, request *dns.Msg) (*dns.Msg, bool) {
	m := new(dns.Msg)
	err := m.Unpack(wire)
	if !answers(m, request) {
		return nil, false
	}
	if err != nil {
		if !m.Truncated && len(wire) < udpBuffer {
			return nil, false
		}
		m.Truncated = true
	}
	return m, true
}

// answers reports whether m is a response to request. Names are compared without
// their case, as some upstreams write it anew. An upstream that understands
// nothing of the request may leave the question out.
func answers(m, request *dns.Msg) bool {
	if m.Id != request.Id || !m.Response || m.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(m.Question) != 1 {
		return len(m.Question) == 0 && m.Rcode == dns.RcodeFormatError
	}
	is, want := m.Question[0], request.Question[0]
	return is.Qtype == want.Qtype && is.Qclass == want.Qclass && strings.EqualFold(is.Name, want.Name)
}
