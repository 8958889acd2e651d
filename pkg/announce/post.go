package announce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/signpost-dev/signpost/pkg/announce/claim"
	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// post is the socket for datagrams of other nodes. It is bound to the address by
// which they know this one, so that what it sends comes from there.
type post struct {
	here   netip.AddrPort
	conn   *net.UDPConn
	reader sync.WaitGroup
}

// openPost has take be told of each datagram until close.
func openPost(ctx context.Context, here netip.AddrPort, take func(p *post, from netip.AddrPort, b []byte)) (*post, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", here.String())
	if err != nil {
		return nil, err
	}
	p := &post{here: here, conn: conn.(*net.UDPConn)}
	p.reader.Go(func() { p.read(take) })
	return p, nil
}

func (p *post) read(take func(*post, netip.AddrPort, []byte)) {
	var b [headerSize + partSize + 1]byte
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(b[:])
		switch {
		case err == nil:
			take(p, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), b[:n])
		case errors.Is(err, net.ErrClosed):
			return
		default:
			time.Sleep(time.Millisecond)
		}
	}
}

// send sends as far as possible: what is lost is asked again.
func (p *post) send(to netip.Addr, datagrams [][]byte) {
	for _, b := range datagrams {
		_, _ = p.conn.WriteToUDPAddrPort(b, netip.AddrPortFrom(to, p.here.Port()))
	}
}

// close returns when nothing is read any more.
func (p *post) close() {
	_ = p.conn.Close() // ends the reader, and there is nothing to flush
	p.reader.Wait()
}

// peer is another node.
type peer struct {
	name string
	// What has come of its texts.
	messages, replies gathering
}

// errStranger: a datagram is not of the node that it should be of.
var errStranger = errors.New("not of this node")

// others are the addresses of all other nodes. a.mu must be held.
func (a *Announcer) others() []netip.Addr { return slices.Collect(maps.Keys(a.peers)) }

// sendMessage sends a message to other nodes.
func (a *Announcer) sendMessage(m claim.Message, to []netip.Addr) {
	sent, err := encodeMessage(m, a.own())
	a.tell("tell other nodes what this one claims", err)
	for _, address := range to {
		a.post.send(address, sent)
	}
}

// own are the interfaces by which this node answers.
func (a *Announcer) own() []frame.MAC {
	var out []frame.MAC
	for _, p := range a.ports {
		out = append(out, p.link.mac)
	}
	return out
}

// received takes in a datagram, and replies to it.
func (a *Announcer) received(p *post, from netip.AddrPort, b []byte) {
	h, part, err := readHeader(b)
	if err != nil {
		a.metrics.received.WithLabelValues("invalid").Inc()
		return
	}
	reply, ok, err := a.take(from, h, part, time.Now())
	if err != nil {
		a.metrics.received.WithLabelValues("invalid").Inc()
		return
	}
	a.metrics.received.WithLabelValues(h.kind.String()).Inc()
	if !ok {
		return
	}
	if sent, err := encodeReply(reply); err == nil { // else nothing is granted to who claims too much
		p.send(from.Addr(), sent)
	}
}

// take takes in a part of a text. The reply is to be sent if there is one.
func (a *Announcer) take(from netip.AddrPort, h header, part []byte, now time.Time) (reply claim.Reply, ok bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	who := a.peers[from.Addr()]
	if who == nil || from.Port() != a.options.Port || a.node == nil {
		return reply, false, errStranger
	}
	if h.kind == kindReply {
		text, done := who.replies.add(h, part)
		if !done {
			return reply, false, nil
		}
		r, err := decodeReply(h, text)
		if err != nil {
			return reply, false, err
		}
		if r.From != who.name {
			return reply, false, fmt.Errorf("%w: %q", errStranger, r.From)
		}
		a.node.Answered(now, r)
		a.stir()
		return reply, false, nil
	}
	text, done := who.messages.add(h, part)
	if !done {
		return reply, false, nil
	}
	m, macs, err := decodeMessage(h, text)
	if err != nil {
		return reply, false, err
	}
	if m.From != who.name {
		return reply, false, fmt.Errorf("%w: %q", errStranger, m.From)
	}
	reply, ok = a.node.Receive(now, m)
	if ok {
		a.learn(m, macs)
	}
	if a.node.Due(now) {
		a.stir()
	}
	return reply, ok, nil
}

// learn notes what a node tells besides: who has one of its interfaces is no
// stranger, and what it holds need not be asked for on the link. a.mu must be held.
func (a *Announcer) learn(m claim.Message, macs []frame.MAC) {
	for _, mac := range macs {
		a.macs[mac] = true
	}
	for _, c := range m.Claims {
		if p := a.places[c.Address]; p != nil && c.Held && p.state != free {
			p.state, a.stale = free, true
			a.stir()
		}
	}
}
