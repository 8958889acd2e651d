package peers

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	// patience is how long a question waits for its reply; after half of it, it is
	// asked once more.
	patience = 200 * time.Millisecond
	// remembered is how many probes may be answered late.
	remembered = 4
)

// line is a connected socket to one node: the kernel hands it replies of that
// address alone, and the refusals. It is safe for concurrent use.
type line struct {
	to      netip.AddrPort
	readers sync.WaitGroup

	mu      sync.Mutex
	conn    *net.UDPConn // nil if it could not be made, or is closed
	closed  bool
	life    life
	probes  [remembered]uint64
	probe   int
	waiting map[uint64]chan message
}

func newLine(to netip.AddrPort) *line {
	return &line{to: to, waiting: map[uint64]chan message{}}
}

// opinion returns what the line hears of its node.
func (l *line) opinion(now time.Time) Opinion {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life.opinion(now)
}

// vouch lets the line know what others say of its node.
func (l *line) vouch(now time.Time, silence time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life.vouched(now, silence)
}

// sendProbe sends a probe. While the node is silent, each goes through a new
// socket: an address of this node may be gone, or the kernel's memory of the
// flow be what stands in the way.
func (l *line) sendProbe(now time.Time) {
	nonce := rand.Uint64()
	l.mu.Lock()
	if l.life.misses >= manyMisses && len(l.waiting) == 0 {
		l.hangUp()
	}
	l.life.probed(now)
	l.probe = (l.probe + 1) % remembered
	l.probes[l.probe] = nonce
	l.mu.Unlock()
	l.send(message{kind: kindProbe, nonce: nonce})
}

// send sends a message as far as possible: what is lost is not heard of either.
func (l *line) send(m message) {
	l.mu.Lock()
	conn, err := l.dial()
	l.mu.Unlock()
	if err != nil {
		return
	}
	b := m.encode()
	if _, err := conn.Write(b[:]); errors.Is(err, syscall.ECONNREFUSED) {
		// This is about what was sent before, and has kept this from being sent.
		l.refused()
		_, _ = conn.Write(b[:])
	}
}

// dial returns the socket. l.mu must be held.
func (l *line) dial() (*net.UDPConn, error) {
	if l.conn != nil {
		return l.conn, nil
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(l.to))
	if err != nil {
		return nil, err
	}
	l.conn = conn
	l.readers.Go(func() { l.read(conn) })
	return conn, nil
}

// hangUp closes the socket; its reader ends. l.mu must be held.
func (l *line) hangUp() {
	if l.conn != nil {
		_ = l.conn.Close() // nothing is lost that was not lost before
		l.conn = nil
	}
}

// close closes the line for good and returns when nothing of it runs.
func (l *line) close() {
	l.mu.Lock()
	l.closed = true
	l.hangUp()
	l.mu.Unlock()
	l.readers.Wait()
}

func (l *line) read(conn *net.UDPConn) {
	var b [messageSize + 1]byte
	for {
		n, err := conn.Read(b[:])
		switch {
		case err == nil:
			if m, err := decode(b[:n]); err == nil {
				l.take(m)
			}
		case errors.Is(err, syscall.ECONNREFUSED):
			l.refused()
		case errors.Is(err, net.ErrClosed):
			return
		default:
			// No route, or nobody at the address: one such error for each message.
			time.Sleep(time.Millisecond)
		}
	}
}

// take takes in a reply, if it is one to something that was asked here.
func (l *line) take(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.waiting[m.nonce]; ok && m.kind != kindProbe && m.kind != kindAsk && m.kind != kindInquiry {
		delete(l.waiting, m.nonce)
		w <- m
		l.life.sign()
		return
	}
	if m.kind != kindAnswer {
		return
	}
	for i, nonce := range l.probes {
		if nonce == m.nonce && nonce != 0 {
			l.probes[i] = 0
			l.life.sign()
		}
	}
}

// refused: the node's kernel says that nobody listens. Nobody will reply.
func (l *line) refused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life.sign()
	for nonce, w := range l.waiting {
		delete(l.waiting, nonce)
		close(w)
	}
}

// exchange asks and waits for the reply: for patience at most, and not longer
// than ctx. It returns false if there is none.
func (l *line) exchange(ctx context.Context, m message) (message, bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m.nonce = rand.Uint64()
	reply := make(chan message, 1)
	l.mu.Lock()
	l.waiting[m.nonce] = reply
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiting, m.nonce)
		l.mu.Unlock()
	}()
	l.send(m)
	again := time.NewTimer(patience / 2)
	defer again.Stop()
	for {
		select {
		case got, ok := <-reply:
			return got, ok
		case <-again.C:
			l.send(m)
		case <-ctx.Done():
			return message{}, false
		}
	}
}
