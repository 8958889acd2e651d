package peers

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// listeners answer at the addresses of this node, each with a socket of its own:
// a reply has to come from the address that was asked. One goroutine calls follow
// and close.
type listeners struct {
	options Options
	metrics *metrics
	opinion func(subject netip.Addr) Opinion
	open    map[netip.Addr]*net.UDPConn
	// failed has what was told of an address that cannot be listened at.
	failed  map[netip.Addr]string
	readers sync.WaitGroup
}

func newListeners(o Options, m *metrics, opinion func(netip.Addr) Opinion) *listeners {
	return &listeners{options: o, metrics: m, opinion: opinion, open: map[netip.Addr]*net.UDPConn{}, failed: map[netip.Addr]string{}}
}

// follow listens at the addresses that the node has now.
func (ls *listeners) follow(ctx context.Context) {
	wanted := ls.options.Listen()
	for address, conn := range ls.open {
		if !slices.Contains(wanted, address) {
			_ = conn.Close() // nobody asks there any more
			delete(ls.open, address)
		}
	}
	for _, address := range wanted {
		if ls.open[address] != nil {
			continue
		}
		conn, err := listen(ctx, netip.AddrPortFrom(address, ls.options.Port))
		if err != nil {
			ls.tell(address, err)
			continue
		}
		delete(ls.failed, address)
		ls.open[address] = conn
		ls.readers.Go(func() { ls.answer(conn) })
	}
}

func listen(ctx context.Context, at netip.AddrPort) (*net.UDPConn, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// tell says once why an address cannot be listened at. An external address of a
// node is often none of its own.
func (ls *listeners) tell(address netip.Addr, err error) {
	if errors.Is(err, syscall.EADDRNOTAVAIL) || ls.failed[address] == err.Error() {
		return
	}
	ls.failed[address] = err.Error()
	ls.options.Log.Warn("cannot listen for peers, trying again", "address", address, "error", err)
}

func (ls *listeners) close() {
	for _, conn := range ls.open {
		_ = conn.Close() // ends its reader, and there is nothing to flush
	}
	ls.readers.Wait()
}

// answer answers until the socket is closed.
func (ls *listeners) answer(conn *net.UDPConn) {
	var b [messageSize + 1]byte
	for {
		n, from, err := conn.ReadFromUDPAddrPort(b[:])
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(time.Millisecond)
			continue
		}
		if reply, ok := ls.reply(b[:n]); ok {
			text := reply.encode()
			_, _ = conn.WriteToUDPAddrPort(text[:], from) // lost like any datagram
		}
	}
}

// reply returns what to say to a message, or false if that is nothing.
func (ls *listeners) reply(b []byte) (message, bool) {
	m, err := decode(b)
	if err != nil {
		ls.metrics.received.WithLabelValues("invalid").Inc()
		return message{}, false
	}
	ls.metrics.received.WithLabelValues(m.kind.String()).Inc()
	switch m.kind {
	case kindProbe:
		return message{kind: kindAnswer, nonce: m.nonce, watermark: ls.options.Watermark()}, true
	case kindAsk:
		return message{kind: kindOpinion, nonce: m.nonce, opinion: ls.opinion(m.subject)}, true
	case kindInquiry:
		return message{kind: kindFinding, nonce: m.nonce, finding: ls.options.Finding(m.backend)}, true
	case kindAnswer, kindOpinion, kindFinding: // nobody has asked at this socket
	}
	return message{}, false
}
