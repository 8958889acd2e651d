package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// identity is who answers. Node may be empty.
type identity struct{ Pod, Node, Version string }

// server answers. Its methods may be called from several goroutines.
type server struct {
	identity
	http.Handler
	unready atomic.Bool // switched off
	ending  atomic.Bool
}

func newServer(id identity) *server {
	s := &server{identity: id}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.who)
	mux.HandleFunc("GET /healthy", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /ready", s.ready)
	// Whoever has only a browser can switch, too.
	for _, method := range []string{"GET ", "POST "} {
		mux.HandleFunc(method+"/ready/off", s.switchTo(false))
		mux.HandleFunc(method+"/ready/on", s.switchTo(true))
	}
	s.Handler = mux
	return s
}

// end makes the server say that it is not ready.
func (s *server) end() { s.ending.Store(true) }

// who says who answers whom. The pod has a line to itself, the same each time, so
// that answers can be counted.
func (s *server) who(w http.ResponseWriter, r *http.Request) {
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	node := ""
	if s.Node != "" {
		node = "node    " + s.Node + "\n"
	}
	// A kept connection stays with its pod: tell those who ask again.
	if s.ending.Load() {
		w.Header().Set("Connection", "close")
	}
	say(w, http.StatusOK, fmt.Sprintf("pod     %s\n%sclient  %s\nversion %s", s.Pod, node, client, s.Version))
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.ending.Load():
		say(w, http.StatusServiceUnavailable, "ending")
	case s.unready.Load():
		say(w, http.StatusServiceUnavailable, "switched off")
	default:
		say(w, http.StatusOK, "ok")
	}
}

func (s *server) switchTo(ready bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.unready.Store(!ready)
		say(w, http.StatusOK, fmt.Sprintf("%s: ready=%v", s.Pod, ready))
	}
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	// A client that has gone needs no answer.
	_, _ = io.WriteString(w, text+"\n")
}
