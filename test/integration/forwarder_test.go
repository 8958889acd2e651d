//go:build integration

package integration

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/signpost-dev/signpost/test/netlab"
)

// forwarder lets a namespace reach an API server that listens on the loopback of
// another one: at address, which is on the namespace's own loopback.
type forwarder struct {
	t       *testing.T
	from    *netlab.Namespace
	target  string
	address string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]struct{}
}

func newForwarder(t *testing.T, from *netlab.Namespace, target string) *forwarder {
	t.Helper()
	f := &forwarder{t: t, from: from, target: target, address: "127.0.0.1:0", conns: map[net.Conn]struct{}{}}
	f.open()
	t.Cleanup(f.shut)
	return f
}

// open starts to forward.
func (f *forwarder) open() {
	f.t.Helper()
	var listener net.Listener
	err := f.from.Do(func() (err error) {
		listener, err = net.Listen("tcp", f.address)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.address = listener.Addr().String()
	f.listener = listener
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go f.relay(conn)
		}
	}()
}

// shut breaks all connections and refuses new ones, as a server does that stops.
func (f *forwarder) shut() {
	_ = f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
}

func (f *forwarder) relay(near net.Conn) {
	far, err := net.Dial("tcp", f.target)
	if err != nil {
		_ = near.Close()
		return
	}
	f.mu.Lock()
	f.conns[near], f.conns[far] = struct{}{}, struct{}{}
	f.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
	_, _ = near.Close(), far.Close()
	<-done
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, near)
	delete(f.conns, far)
}
