package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// Server answers everybody with the name of its namespace and the address that
// it sees them at.
type Server struct {
	// Addr is where it listens.
	Addr  netip.AddrPort
	close func() error
	done  chan struct{}
}

// Close stops the server. Its address is free afterwards.
func (s *Server) Close() error {
	err := s.close()
	<-s.done
	return err
}

// Serve starts a server in the namespace. network is tcp or udp.
func (n *Namespace) Serve(network string, at netip.AddrPort) (*Server, error) {
	s := &Server{Addr: at, done: make(chan struct{})}
	err := n.Do(func() error {
		switch network {
		case "tcp":
			return n.serveTCP(s)
		case "udp":
			return n.serveUDP(s)
		}
		return fmt.Errorf("unknown network %q", network)
	})
	if err != nil {
		return nil, fmt.Errorf("serving %s %s in %s: %w", network, at, n.Name, err)
	}
	return s, nil
}

// answer is what a server says.
func (n *Namespace) answer(peer netip.AddrPort) string {
	return n.Name + " " + netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()).String()
}

func (n *Namespace) serveTCP(s *Server) error {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(s.Addr))
	if err != nil {
		return err
	}
	s.Addr, s.close = l.Addr().(*net.TCPAddr).AddrPort(), l.Close
	go func() {
		defer close(s.done)
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			// A client reads until the end; nothing it does can block this for long.
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = c.Write([]byte(n.answer(c.RemoteAddr().(*net.TCPAddr).AddrPort())))
			_ = c.Close()
		}
	}()
	return nil
}

func (n *Namespace) serveUDP(s *Server) error {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.Addr))
	if err != nil {
		return err
	}
	s.Addr, s.close = c.LocalAddr().(*net.UDPAddr).AddrPort(), c.Close
	go func() {
		defer close(s.done)
		var b [1500]byte
		for {
			_, peer, err := c.ReadFromUDPAddrPort(b[:])
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = c.WriteToUDPAddrPort([]byte(n.answer(peer)), peer)
			}
		}
	}()
	return nil
}

// Answer is what a client got.
type Answer struct {
	// Name is the namespace of the server that answered.
	Name string
	// Seen is the address that the server saw the client at.
	Seen netip.AddrPort
}

// patience is how long a client waits for an answer.
const patience = 2 * time.Second

// Dial connects from the namespace, or sends a datagram for udp, and returns who
// answered. A connection that is refused is an error that wraps
// syscall.ECONNREFUSED; where nobody answers it is one that wraps
// os.ErrDeadlineExceeded, after two seconds; ctx ends only connecting.
//
// No two datagrams of a namespace come from the same port: the kernel tracks
// them, and takes what comes from a port that it knows to where the one before
// went, whatever the rules say by now.
func (n *Namespace) Dial(ctx context.Context, network string, to netip.AddrPort) (Answer, error) {
	if network != "udp" {
		return n.DialFrom(ctx, network, netip.AddrPort{}, to)
	}
	anywhere := netip.IPv6Unspecified()
	if to.Addr().Is4() {
		anywhere = netip.IPv4Unspecified()
	}
	for {
		from := netip.AddrPortFrom(anywhere, uint16(firstPort+n.ports.Add(1)%ports))
		got, err := n.DialFrom(ctx, network, from, to)
		if !errors.Is(err, syscall.EADDRINUSE) { // a server of the namespace has it
			return got, err
		}
	}
}

// The ports that datagrams come from: below those that the kernel gives out.
const (
	firstPort = 10_000
	ports     = 20_000
)

// DialFrom is Dial from a given address and port of the namespace.
func (n *Namespace) DialFrom(ctx context.Context, network string, from, to netip.AddrPort) (Answer, error) {
	var said string
	err := n.Do(func() error {
		var err error
		said, err = dial(ctx, network, from, to)
		return err
	})
	if err != nil {
		return Answer{}, fmt.Errorf("%s from %s to %s: %w", network, n.Name, to, err)
	}
	name, seen, _ := strings.Cut(said, " ")
	addr, err := netip.ParseAddrPort(seen)
	return Answer{Name: name, Seen: addr}, err
}

func dial(ctx context.Context, network string, from, to netip.AddrPort) (string, error) {
	d := net.Dialer{Timeout: patience, FallbackDelay: -1}
	if from.IsValid() && network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(from)
	} else if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	c, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			err = errors.Join(err, os.ErrDeadlineExceeded)
		}
		return "", err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if network == "udp" {
		if _, err := c.Write([]byte("who are you?")); err != nil {
			return "", err
		}
	}
	var b [1500]byte
	k, err := c.Read(b[:])
	return string(b[:k]), err
}
