package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// udpReceiveBuffer is how many octets of requests the kernel may hold for a
// socket; it grants what net.core.rmem_max allows.
const udpReceiveBuffer = 1 << 20

// listener is an address that is listened on: a UDP socket for each processor,
// among which the kernel spreads the clients, and one for TCP.
type listener struct {
	addr netip.AddrPort
	udp  []*net.UDPConn
	tcp  *net.TCPListener
	wg   sync.WaitGroup
	// failure is why one of the sockets has ended before close.
	failure atomic.Pointer[error]
}

// listen binds all sockets of addr, or none. If its port is 0 the kernel chooses
// one, the same for all of them.
func listen(ctx context.Context, addr netip.AddrPort) (*listener, error) {
	l := &listener{addr: addr}
	if err := l.bind(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *listener) bind(ctx context.Context) error {
	config := net.ListenConfig{Control: reusePort}
	stream, err := config.Listen(ctx, "tcp", l.addr.String())
	if err != nil {
		return err
	}
	l.tcp = stream.(*net.TCPListener)
	l.addr = netip.AddrPortFrom(l.addr.Addr(), uint16(l.tcp.Addr().(*net.TCPAddr).Port))
	for range runtime.GOMAXPROCS(0) {
		packet, err := config.ListenPacket(ctx, "udp", l.addr.String())
		if err != nil {
			return err
		}
		conn := packet.(*net.UDPConn)
		l.udp = append(l.udp, conn)
		if err := conn.SetReadBuffer(udpReceiveBuffer); err != nil {
			return fmt.Errorf("receive buffer of %s: %w", l.addr, err)
		}
	}
	return nil
}

// reusePort lets several sockets have the same address, of this process or of
// the next one, which is then there before this one is gone.
func reusePort(_, _ string, c syscall.RawConn) error {
	return onSocket(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
}

// takeNoMore has the UDP sockets take nothing any more but what the kernel holds for
// them already. They can still send, also when the node does not have their address any more.
func (l *listener) takeNoMore() error {
	var errs []error
	for _, conn := range l.udp {
		raw, err := conn.SyscallConn()
		if err == nil {
			err = onSocket(raw, l.turnAway)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// turnAway connects a socket to nobody: it is found for nobody else's packets then.
func (l *listener) turnAway(fd int) error {
	const discard = 9
	if l.addr.Addr().Is4() {
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1),
			unix.Connect(fd, &unix.SockaddrInet4{Port: discard, Addr: [4]byte{127, 0, 0, 1}}))
	}
	return errors.Join(unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1),
		unix.Connect(fd, &unix.SockaddrInet6{Port: discard, Addr: [16]byte{15: 1}}))
}

func onSocket(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if controlErr := c.Control(func(fd uintptr) { err = f(int(fd)) }); controlErr != nil {
		return controlErr
	}
	return err
}

// start serves all sockets. failed is called after failure was set, once or more.
func (l *listener) start(ctx context.Context, s *Server, allowed func(netip.Addr) bool, failed func()) {
	run := func(serve func(context.Context) error) {
		l.wg.Go(func() {
			if err := serve(ctx); err != nil {
				l.failure.Store(&err)
				failed()
			}
		})
	}
	for _, conn := range l.udp {
		run(func(ctx context.Context) error {
			u, err := newUDPSocket(s, conn, l.addr, allowed)
			if err != nil {
				return err
			}
			return u.serve(ctx)
		})
	}
	t := &tcpServer{server: s, listener: l.tcp, allowed: allowed, meter: s.metrics.meter(l.addr, "tcp")}
	run(t.serve)
}

// close closes all sockets. Who waits on wg then knows when nobody uses them.
func (l *listener) close() {
	for _, conn := range l.udp {
		// A socket that is closed twice says so; there is nothing to do about it.
		_ = conn.Close()
	}
	if l.tcp != nil {
		_ = l.tcp.Close()
	}
}
