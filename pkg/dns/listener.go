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
// one, the same for all of them. If early is true the node need not have the address yet.
func listen(ctx context.Context, addr netip.AddrPort, early bool) (*listener, error) {
	l := &listener{addr: addr}
	if err := l.bind(ctx, early); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *listener) bind(ctx context.Context, early bool) error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return onSocket(c, func(fd int) error { return l.prepare(fd, early) })
	}}
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

// prepare lets several sockets have the same address, of this process or of
// the next one, which is then there before this one is gone.
func (l *listener) prepare(fd int, early bool) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err != nil || !early {
		return err
	}
	if l.addr.Addr().Is4() {
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
}

// outlive lets the UDP sockets send from their address when the node does not have it
// any more.
func (l *listener) outlive() error {
	var errs []error
	for _, conn := range l.udp {
		raw, err := conn.SyscallConn()
		if err == nil {
			err = onSocket(raw, func(fd int) error {
				if l.addr.Addr().Is4() {
					return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
				}
				return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
			})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
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
