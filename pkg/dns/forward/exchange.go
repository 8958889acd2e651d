package forward

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// udpBuffer is the largest datagram that is taken. Some upstreams send more
	// than they are asked for.
	udpBuffer = 4096
	// maxMistakes is how many datagrams that are not the answer are ignored before
	// the question is asked over TCP: somebody is guessing.
	maxMistakes = 3
	// maxTCP bounds the connections to upstreams that are open at a time.
	maxTCP = 128
	// tcpCheckTimeout bounds the wait for TCP where an answer over UDP is there, but
	// for the case of its name.
	tcpCheckTimeout = 500 * time.Millisecond
)

// datagram is the memory that one is received in.
type datagram struct {
	text    [udpBuffer]byte
	control [64]byte
}

var datagrams = sync.Pool{New: func() any { return new(datagram) }}

// Why the answer has to be fetched over TCP.
var (
	errCut        = errors.New("the answer was cut")
	errFragments  = errors.New("the answer came in fragments")
	errGuessing   = errors.New("too many datagrams were not the answer")
	errCase       = errors.New("the answer spells the name otherwise")
	errNotAnswer  = errors.New("it answers another question")
	errTCPTooMany = errors.New("too many TCP connections to upstreams")
)

// exchange asks u over UDP, and over TCP if the answer does not fit or cannot be
// trusted. An upstream too old for EDNS is asked again without, and it is
// remembered of one that it spells names its own way.
func (f *Forwarder) exchange(ctx context.Context, u *upstream, k key) (*dns.Msg, error) {
	edns, cased := u.manners(time.Now())
	r := newRequest(k, edns, cased)
	m, err := f.overUDP(ctx, u.addr, r)
	switch {
	case errors.Is(err, errCase):
		m, err = f.otherwiseSpelled(ctx, u, k, r)
	case errors.Is(err, errCut), errors.Is(err, errFragments), errors.Is(err, errGuessing):
		m, _, err = f.overTCP(ctx, u.addr, r)
	}
	if err == nil && m.Rcode == dns.RcodeFormatError && edns && k.flags&DNSSEC == 0 {
		if m, err = f.overUDP(ctx, u.addr, newRequest(k, false, cased)); err == nil && m.Rcode != dns.RcodeFormatError {
			u.lacksEDNS(time.Now())
		}
	}
	return m, err
}

// otherwiseSpelled asks again: either u does not keep the case of names, or
// somebody has guessed ID and port. Over TCP nobody can answer but u, so what u
// does there tells which. If there is no TCP, u is asked in other capitals: only
// if those come back wrong, too, is it believed not to keep them, or else one lucky
// guess would make all further ones easier. Then the name goes out in lower case,
// which such upstreams mostly answer in.
func (f *Forwarder) otherwiseSpelled(ctx context.Context, u *upstream, k key, r request) (*dns.Msg, error) {
	overTCP, cancel := context.WithTimeout(ctx, tcpCheckTimeout)
	defer cancel()
	m, how, err := f.overTCP(overTCP, u.addr, r)
	if err == nil {
		if how == otherCase {
			u.lacksCase(time.Now())
		}
		return m, nil
	}
	if m, err = f.overUDP(ctx, u.addr, newRequest(k, true, true)); !errors.Is(err, errCase) {
		return m, err
	}
	if m, err = f.overUDP(ctx, u.addr, newRequest(k, true, false)); err == nil {
		u.lacksCase(time.Now())
	}
	return m, err
}

// overUDP sends from a new socket, so that the kernel draws a random port, and
// that is connected, so that the kernel drops what comes from elsewhere. What is
// not the answer is ignored, whatever it is, and nothing is said to its sender: he
// must not learn that somebody waits here (CVE-2023-28452, TuDoor).
func (f *Forwarder) overUDP(ctx context.Context, addr netip.AddrPort, r request) (*dns.Msg, error) {
	conn, err := dial(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer interruptible(ctx, conn)()
	if _, err := conn.Write(r.wire); err != nil {
		return nil, fmt.Errorf("send: %w", err)
	}
	d := datagrams.Get().(*datagram)
	defer datagrams.Put(d)
	for range maxMistakes {
		n, nControl, _, _, err := conn.(*net.UDPConn).ReadMsgUDPAddrPort(d.text[:], d.control[:])
		if err != nil {
			return nil, fmt.Errorf("receive: %w", err)
		}
		m, how, err := r.read(d.text[:n])
		switch {
		case how == other:
			f.metrics.ignored.Inc()
		case inFragments(d.control[:nControl]):
			return nil, errFragments
		case how == otherCase:
			f.metrics.ignored.Inc()
			return nil, errCase
		case err != nil && n < udpBuffer:
			f.metrics.ignored.Inc()
		case err != nil, m.Truncated:
			return nil, errCut
		default:
			return m, nil
		}
	}
	return nil, errGuessing
}

// read reads a message if it answers r. An error says that it does by its
// beginning only.
func (r request) read(wire []byte) (*dns.Msg, match, error) {
	how := r.compare(wire)
	if how == other {
		return nil, other, nil
	}
	m := new(dns.Msg)
	if wire[2]&(bitTC>>8) != 0 {
		m.Truncated = true
		return m, how, nil // whatever is in it, it is not all
	}
	if err := expands(wire); err != nil {
		return nil, how, err
	}
	return m, how, m.Unpack(wire)
}

// overTCP asks over TCP. Memory grows with what comes, not with what is promised.
func (f *Forwarder) overTCP(ctx context.Context, addr netip.AddrPort, r request) (*dns.Msg, match, error) {
	select {
	case f.tcp <- struct{}{}:
		defer func() { <-f.tcp }()
	default:
		return nil, other, errTCPTooMany
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, other, err
	}
	defer conn.Close()
	defer interruptible(ctx, conn)()
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(r.wire))), r.wire...)
	if _, err := conn.Write(framed); err != nil {
		return nil, other, fmt.Errorf("send over TCP: %w", err)
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, other, fmt.Errorf("receive over TCP: %w", err)
	}
	var text bytes.Buffer
	if _, err := io.CopyN(&text, conn, int64(binary.BigEndian.Uint16(size[:]))); err != nil {
		return nil, other, fmt.Errorf("receive over TCP: %w", err)
	}
	m, how, err := r.read(text.Bytes())
	switch {
	case how == other:
		err = errNotAnswer
	case err == nil && m.Truncated:
		err = errCut
	}
	if err != nil {
		return nil, other, fmt.Errorf("response over TCP: %w", err)
	}
	return m, how, nil
}

// dial connects and sets the deadline of ctx.
func dial(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if network == "udp" {
		d.Control = tellOfFragments
	}
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

// tellOfFragments makes the kernel say which datagrams came in fragments. Only
// the first fragment carries what a forger has to guess; the others he can
// replace.
func tellOfFragments(network, _ string, c syscall.RawConn) error {
	level, option := unix.IPPROTO_IP, unix.IP_RECVFRAGSIZE
	if network == "udp6" {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVFRAGSIZE
	}
	var err error
	if controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }); controlErr != nil {
		return controlErr
	}
	return err
}

// inFragments reports whether the kernel says so in a datagram's control data.
func inFragments(control []byte) bool {
	for len(control) >= unix.CmsgLen(0) {
		h, _, rest, err := unix.ParseOneSocketControlMessage(control)
		if err != nil {
			return false
		}
		if h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVFRAGSIZE || h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVFRAGSIZE {
			return true
		}
		control = rest
	}
	return false
}
