package dns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchLen is how many datagrams one system call reads or writes at most. Under
// load most of the work for a datagram is that call; more than this gains little
// and makes the first answer of a batch wait.
const batchLen = 16

// datagrams reads and writes datagrams of one socket, several at a time. What
// golang.org/x/net has for that allocates an address for each. It has the memory
// for one batch and is for one goroutine.
type datagrams struct {
	raw syscall.RawConn
	in  [batchLen]datagram
	out [batchLen]datagram
	// received is the number of those in in, queued that of those in out; sent is
	// how many of the latter are gone.
	received, queued, sent int

	inHeaders, outHeaders [batchLen]messageHeader
	// read and write are made once: each new closure would be an allocation.
	read, write func(fd uintptr) bool
	n           int
	errno       syscall.Errno
	// pressed is true while the socket's buffer fills.
	pressed bool
}

type datagram struct {
	addr   unix.RawSockaddrInet6 // or RawSockaddrInet4
	vector unix.Iovec
	buffer [maxUDPSize]byte
}

// messageHeader is the kernel's struct mmsghdr.
type messageHeader struct {
	unix.Msghdr
	length uint32
}

func newDatagrams(conn *net.UDPConn) (*datagrams, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	d := &datagrams{raw: raw}
	prepare := func(h *messageHeader, g *datagram) {
		h.Name = (*byte)(unsafe.Pointer(&g.addr))
		h.Iov = &g.vector
		h.SetIovlen(1)
		g.vector.Base = &g.buffer[0]
		g.vector.SetLen(len(g.buffer))
	}
	for i := range batchLen {
		prepare(&d.inHeaders[i], &d.in[i])
		prepare(&d.outHeaders[i], &d.out[i])
	}
	d.read = func(fd uintptr) bool {
		done := d.call(unix.SYS_RECVMMSG, fd, d.inHeaders[:])
		d.pressed = d.n == batchLen && filling(fd)
		return done
	}
	d.write = func(fd uintptr) bool { return d.call(unix.SYS_SENDMMSG, fd, d.outHeaders[d.sent:d.queued]) }
	return d, nil
}

// call makes one system call, and returns false if it has to be made again when the
// socket is ready for it.
func (d *datagrams) call(trap, fd uintptr, headers []messageHeader) bool {
	for {
		n, _, errno := unix.Syscall6(trap, fd, uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if d.n, d.errno = int(n), errno; errno != 0 {
			d.n = 0
		}
		return errno != unix.EAGAIN
	}
}

// receive waits for datagrams. The error is net.ErrClosed after the end of the
// socket.
func (d *datagrams) receive() error {
	d.received = 0
	for i := range d.inHeaders {
		d.inHeaders[i].Namelen = unix.SizeofSockaddrInet6
	}
	if err := d.raw.Read(d.read); err != nil {
		return err
	}
	if d.errno != 0 {
		return os.NewSyscallError("recvmmsg", d.errno)
	}
	d.received = d.n
	return nil
}

// filling reports whether more has come than is read of what the kernel holds for
// the socket fd. It may count a quarter of what it can hold as held when it is not,
// so a good part more than that is needed to be sure.
func filling(fd uintptr) bool {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && info[unix.SK_MEMINFO_RMEM_ALLOC] >= info[unix.SK_MEMINFO_RCVBUF]/8*3
}

// request returns what was received, and whether it is whole.
func (d *datagrams) request(i int) (wire []byte, whole bool) {
	h := &d.inHeaders[i]
	return d.in[i].buffer[:h.length], h.Flags&unix.MSG_TRUNC == 0
}

// client returns who has sent it. It allocates only for a link-local address.
func (d *datagrams) client(i int) netip.AddrPort {
	sa := &d.in[i].addr
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:]) // at the same place in both
	if sa.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), port)
	}
	addr := netip.AddrFrom16(sa.Addr)
	if sa.Scope_id != 0 {
		addr = addr.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
	}
	return netip.AddrPortFrom(addr, port)
}

// reply returns the memory for the reply to request i, which queue sends.
func (d *datagrams) reply() []byte { return d.out[d.queued].buffer[:0] }

// queue takes what was appended to reply as the reply to request i. There is room
// for one to each request that was received.
func (d *datagrams) queue(i int, wire []byte) {
	g, h := &d.out[d.queued], &d.outHeaders[d.queued]
	g.addr = d.in[i].addr
	h.Namelen = d.inHeaders[i].Namelen
	g.vector.SetLen(len(wire))
	d.queued++
}

// flush sends what is queued, and returns how many the kernel would not have. That
// the socket was closed meanwhile is nobody's concern.
func (d *datagrams) flush() (lost int) {
	for d.sent = 0; d.sent < d.queued; {
		if err := d.raw.Write(d.write); err != nil {
			break
		}
		if d.errno != 0 { // which is about the first one
			lost++
			d.n = 1
		}
		d.sent += d.n
	}
	d.queued = 0
	return lost
}
