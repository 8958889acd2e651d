package prober

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
)

// dial connects to a backend, whatever a URL says.
func dial(ctx context.Context, t *check.Target) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", t.At.String())
}

// dialHTTP connects as dial does, for a transport of net/http.
func dialHTTP(ctx context.Context, t *check.Target) (net.Conn, error) {
	conn, err := dial(ctx, t)
	if err != nil {
		return nil, err
	}
	return newPolite(conn), nil
}

// dialTLS connects as dialHTTP does, with TLS. A certificate need not be good: there
// is nobody here to say which ones are.
func dialTLS(ctx context.Context, t *check.Target, name string) (net.Conn, error) {
	conn, err := dial(ctx, t)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // it failed before
		return nil, err
	}
	return newPolite(secure), nil
}

// polite is a connection on which nothing is heard before something was said. A
// transport of net/http logs what a server says before it is asked, with all that
// it says, and gives up.
type polite struct {
	net.Conn
	said func()
	once chan struct{}
}

func newPolite(conn net.Conn) *polite {
	once := make(chan struct{})
	return &polite{conn, sync.OnceFunc(func() { close(once) }), once}
}

// Read implements net.Conn.
func (p *polite) Read(b []byte) (int, error) {
	<-p.once
	return p.Conn.Read(b)
}

// Write implements net.Conn.
func (p *polite) Write(b []byte) (int, error) {
	defer p.said()
	return p.Conn.Write(b)
}

// Close implements net.Conn.
func (p *polite) Close() error {
	defer p.said()
	return p.Conn.Close()
}
