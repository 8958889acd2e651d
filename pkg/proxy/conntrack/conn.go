package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a netlink socket to the kernel's netfilter. The libraries' read a
// table into memory, or allocate for each message of it; this one has one buffer, which
// it hands out message by message.
type conn struct {
	fd  int
	seq uint32
	buf []byte
}

// patience is how long the kernel may take for one message. It answers from
// memory, so that this only ends what would hang for ever.
const patience = 5 * time.Second

// The kernel fills no more than 32 KiB at a time.
const bufferSize = 64 << 10

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, bufferSize)}
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		// An error shall not come with the request that it is about.
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
	)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("setting up a netlink socket: %w", err)
	}
	return c, nil
}

func (c *conn) close() { _ = unix.Close(c.fd) }

func (c *conn) send(message []byte) error {
	return unix.Sendto(c.fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// dump sends a request and calls each with what follows the header of each
// message of the answer, which is overwritten after that.
func (c *conn) dump(ctx context.Context, request []byte, each func([]byte)) error {
	c.seq++
	binary.NativeEndian.PutUint32(request[8:], c.seq)
	if err := c.send(request); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf, 0)
		if err != nil {
			return err
		}
		for m := range messages(c.buf[:n]) {
			if m.seq != c.seq {
				continue // of a dump that was given up
			}
			if m.kind == unix.NLMSG_ERROR || m.kind == unix.NLMSG_DONE {
				return m.error()
			}
			each(m.data)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// refusals returns the errors that the kernel has answered with so far. It
// handles a request while it is sent: there is nothing to wait for.
func (c *conn) refusals() ([]error, error) {
	var out []error
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		for m := range messages(c.buf[:n]) {
			if err := m.error(); m.kind == unix.NLMSG_ERROR && err != nil {
				out = append(out, err)
			}
		}
	}
}
