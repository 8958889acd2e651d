package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// server is an API server that can be away.
type server struct {
	address string
	ready   *atomic.Bool
	got     chan string
	stop    func()
}

func (s *server) start(t *testing.T) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	if s.address = listener.Addr().String(); s.ready == nil {
		s.ready = &atomic.Bool{}
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			if !s.ready.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return
		}
		body, _ := io.ReadAll(r.Body)
		s.got <- r.Method + " " + string(body)
	})}
	go func() { _ = srv.Serve(listener) }()
	s.stop = func() { _ = srv.Close() }
}

func patientClient(t *testing.T, s *server) (*http.Client, *patience) {
	t.Helper()
	p := newPatience(t.Context(), "http://"+s.address, &http.Transport{DisableKeepAlives: true})
	p.pause = 10 * time.Millisecond
	return &http.Client{Transport: p}, p
}

func TestPatienceWaitsForTheServerToBeReady(t *testing.T) {
	s := &server{address: "127.0.0.1:0", got: make(chan string, 10)}
	s.start(t)
	s.stop()
	client, p := patientClient(t, s)
	url := "http://" + s.address

	done := make(chan error, 3)
	for _, body := range []string{"a", "b", "c"} {
		go func() {
			resp, err := client.Post(url, "text/plain", strings.NewReader(body))
			if err == nil {
				err = resp.Body.Close()
			}
			done <- err
		}()
		waitUntilShut(p)
	}
	s.start(t)
	defer s.stop()
	select {
	case got := <-s.got:
		t.Fatalf("%q was sent before the server was ready", got)
	case err := <-done:
		t.Fatalf("a request ended before the server was ready: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	s.ready.Store(true)
	seen := map[string]bool{}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
		seen[<-s.got] = true
	}
	if len(seen) != 3 || len(s.got) != 0 {
		t.Errorf("the server got %v and %d more, want each of the three bodies once", seen, len(s.got))
	}
}

func waitUntilShut(p *patience) {
	for shut := false; !shut; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		shut = p.gate != nil
		p.mu.Unlock()
	}
}

func TestPatienceEndsWithTheRequest(t *testing.T) {
	s := &server{address: "127.0.0.1:0"}
	s.start(t)
	s.stop()
	client, _ := patientClient(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline's", err)
	}
}

func TestPatiencePassesOtherErrorsThrough(t *testing.T) {
	broken := errors.New("broken")
	p := newPatience(t.Context(), "http://127.0.0.1", roundTripper(func(*http.Request) (*http.Response, error) { return nil, broken }))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.RoundTrip(req); !errors.Is(err, broken) { //nolint:bodyclose // there is no response
		t.Errorf("error %v, want %v", err, broken)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
