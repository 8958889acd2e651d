package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ask(t *testing.T, s *server, method, path string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.RemoteAddr = "10.244.1.7:40312"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestWho(t *testing.T) {
	for _, tt := range []struct {
		name string
		id   identity
		want string
	}{
		{"in a pod that knows its node", identity{"alpaca-1", "node1", "dev"},
			"pod     alpaca-1\nnode    node1\nclient  10.244.1.7\nversion dev\n"},
		{"in another", identity{"alpaca-1", "", "2"}, "pod     alpaca-1\nclient  10.244.1.7\nversion 2\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, got := ask(t, newServer(tt.id), "GET", "/")
			if diff := cmp.Diff(tt.want, got); diff != "" || code != http.StatusOK {
				t.Errorf("GET / = %d (-want +got):\n%s", code, diff)
			}
		})
	}
}

func TestReadiness(t *testing.T) {
	s := newServer(identity{Pod: "alpaca-1"})
	for _, step := range []struct {
		method, path string
		code         int
		text         string
	}{
		{"GET", "/ready", 200, "ok\n"},
		{"POST", "/ready/off", 200, "alpaca-1: ready=false\n"},
		{"GET", "/ready", 503, "switched off\n"},
		{"GET", "/healthy", 200, "ok\n"},
		{"GET", "/", 200, "pod     alpaca-1\nclient  10.244.1.7\nversion \n"},
		{"GET", "/ready/on", 200, "alpaca-1: ready=true\n"},
		{"GET", "/ready", 200, "ok\n"},
		{"GET", "/nowhere", 404, "404 page not found\n"},
		{"DELETE", "/ready/off", 405, "Method Not Allowed\n"},
	} {
		if code, text := ask(t, s, step.method, step.path); code != step.code || text != step.text {
			t.Errorf("%s %s = %d %q, want %d %q", step.method, step.path, code, text, step.code, step.text)
		}
	}
}

// pipes is a network of pipes in memory.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.accept <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) get(t *testing.T, path string) (int, error) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}}
	res, err := client.Get("http://kuard" + path)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// TestEnd tells the server to end while a request is under way, and asks it
// before, while and after it is a lame duck.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lameDuck, drain = 5 * time.Second, 10 * time.Second
		s := newServer(identity{Pod: "alpaca-1"})
		answers := s.Handler
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				time.Sleep(8 * time.Second)
			}
			answers.ServeHTTP(w, r)
		})
		network := newPipes()
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- serve(ctx, network, s, lameDuck, drain) }()
		if code, err := network.get(t, "/ready"); code != http.StatusOK {
			t.Errorf("before: GET /ready = %d, %v, want 200", code, err)
		}
		slow := make(chan int, 1)
		go func() {
			code, err := network.get(t, "/")
			if err != nil {
				t.Errorf("the request that was under way: %v", err)
			}
			slow <- code
		}()
		time.Sleep(time.Second)
		begin := time.Now()
		end()
		synctest.Wait()
		if code, err := network.get(t, "/ready"); code != http.StatusServiceUnavailable {
			t.Errorf("lame duck: GET /ready = %d, %v, want 503", code, err)
		}
		if code, err := network.get(t, "/healthy"); code != http.StatusOK {
			t.Errorf("lame duck: GET /healthy = %d, %v, want 200: connections are still accepted", code, err)
		}
		time.Sleep(lameDuck)
		synctest.Wait()
		if code, err := network.get(t, "/healthy"); err == nil {
			t.Errorf("after: GET /healthy = %d, want no connection", code)
		}
		if code := <-slow; code != http.StatusOK {
			t.Errorf("the request that was under way got %d, want 200", code)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve() = %v", err)
		}
		if took := time.Since(begin); took < 7*time.Second || took > 8*time.Second {
			t.Errorf("it took %v to end, want as long as the request that was under way: 7 s", took)
		}
	})
}
