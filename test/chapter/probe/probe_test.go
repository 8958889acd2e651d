package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func TestGet(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"a pod", "pod     alpaca-prod-6b9d9f7c5d-x2x7k\nclient  10.0.0.1\n", 200, "alpaca-prod-6b9d9f7c5d-x2x7k"},
		{"no pod", "hello\n", 200, "!no_pod_name_in_the_answer"},
		{"not well", "pod     alpaca-prod-1", 503, "!status_503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer server.Close()
			ask, err := asker(server.URL, time.Second, 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestKept holds that kept connections are as many as were asked for, and that
// without any each question has one of its own.
func TestKept(t *testing.T) {
	for kept, want := range map[int]int{0: 6, 2: 2} {
		sources := map[string]bool{}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sources[r.RemoteAddr] = true
			fmt.Fprint(w, "pod     a")
		}))
		ask, err := asker(server.URL, time.Second, kept)
		if err != nil {
			t.Fatal(err)
		}
		for range 6 {
			if got := ask(); got != "a" {
				t.Errorf("%d kept: got %s", kept, got)
			}
		}
		server.Close()
		if len(sources) != want {
			t.Errorf("%d kept: six questions came over %d connections, want %d", kept, len(sources), want)
		}
	}
}

// TestLookup holds that each question is one packet from a port of its own: one
// that is lost must not count for those beside it.
func TestLookup(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]bool{}
	server := &dns.Server{PacketConn: socket, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		sources[w.RemoteAddr().String()] = true
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name == "web.example." {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(10, 96, 0, 7)}}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	for _, tt := range []struct{ name, want string }{
		{"web.example", "10.96.0.7"}, {"web.example", "10.96.0.7"}, {"nobody.example", "!NOERROR_without_an_address"},
	} {
		ask, err := asker("dns://"+socket.LocalAddr().String()+"/"+tt.name, 5*time.Second, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	if err := errors.Join(server.Shutdown(), <-done); err != nil {
		t.Fatal(err)
	}
	if len(sources) != 3 {
		t.Errorf("three questions came from %v", sources)
	}
}

func TestNobodyThere(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	ask, err := asker(server.URL, time.Second, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(); !strings.HasPrefix(got, "!") || !strings.Contains(got, "refused") || strings.Contains(got, " ") {
		t.Errorf("got %q, want a failure in one field that says refused", got)
	}
}

func TestUnknownScheme(t *testing.T) {
	if _, err := asker("ftp://10.96.0.1/", time.Second, 0); err == nil {
		t.Error("ftp was accepted")
	}
}

// TestProbeIsOpen holds that a slow answer does not delay the next question.
func TestProbeIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		out := bufio.NewWriter(&text)
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Millisecond)
		defer cancel()
		probe(ctx, func() string { time.Sleep(time.Second); return "a-b" }, 10*time.Millisecond, out)
		if got := strings.Count(text.String(), " a-b\n"); got != 9 {
			t.Errorf("%d answers, want 9:\n%s", got, text.String())
		}
	})
}
