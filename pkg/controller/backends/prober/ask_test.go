package prober

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
)

// asker returns a Prober for checks alone.
func asker() *Prober {
	m, err := newMetrics(prometheus.NewRegistry(), func() map[verdict.State]int { return nil })
	if err != nil {
		panic(err)
	}
	return &Prober{metrics: m}
}

func ask(t *testing.T, c check.Check, at string) verdict.Finding {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	began := time.Now()
	got := asker().check(t.Context(), &check.Target{Check: c, At: netip.MustParseAddrPort(at)})
	if took := time.Since(began); took > c.Timeout+500*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	return got
}

// talk listens, and does this with each connection, which it closes then.
func talk(t *testing.T, with func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // until the test closes the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				with(c)
			}()
		}
	}()
	return l.Addr().String()
}

// nobody returns an address where nobody listens.
func nobody(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// silent says nothing for long.
func silent(net.Conn) { time.Sleep(2 * time.Second) }

func TestTCP(t *testing.T) {
	if got := ask(t, check.Check{Kind: check.TCP}, talk(t, func(net.Conn) {})); got != up() {
		t.Errorf("somebody listens: %+v", got)
	}
	if got := ask(t, check.Check{Kind: check.TCP}, nobody(t)); got != down(verdict.Refused, 0) {
		t.Errorf("nobody listens: %+v", got)
	}
}

func TestHTTP(t *testing.T) {
	var host, agent string
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(_ http.ResponseWriter, r *http.Request) { host, agent = r.Host, r.UserAgent() })
	mux.HandleFunc("/teapot", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/query", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "full=1&x=%20y" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.Handle("/here", http.RedirectHandler("/broken", http.StatusFound))
	mux.Handle("/here/good", http.RedirectHandler("/good", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler("http://192.0.2.1/", http.StatusFound))
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "x")
		panic(http.ErrAbortHandler)
	})
	for kind, server := range map[check.Kind]*httptest.Server{check.HTTP: httptest.NewServer(mux), check.HTTPS: httptest.NewTLSServer(mux)} {
		t.Cleanup(server.Close)
		at := server.Listener.Addr().String()
		for path, want := range map[string]verdict.Finding{
			"/good": up(), "/query?full=1&x=%20y": up(), "/here/good": up(), "/away": up(), "/loop": up(), "/long": up(),
			"/teapot": down(verdict.HTTPStatus, 418), "/broken": down(verdict.HTTPStatus, 503), "/here": down(verdict.HTTPStatus, 503),
			"/missing": down(verdict.HTTPStatus, 404), "/cut": down(verdict.Closed, 0),
		} {
			if got := ask(t, check.Check{Kind: kind, Path: path}, at); got != want {
				t.Errorf("%s %s: %+v, want %+v", kind, path, got, want)
			}
		}
		if got := ask(t, check.Check{Kind: kind, Path: "/slow", Timeout: 200 * time.Millisecond}, at); got != down(verdict.TimedOut, 0) {
			t.Errorf("%s, slow: %+v", kind, got)
		}
		if got := ask(t, check.Check{Kind: kind, Path: "/here/good"}, at); got != up() || host != at || agent != userAgent {
			t.Errorf("%s: %+v, Host %q, User-Agent %q", kind, got, host, agent)
		}
		if got := ask(t, check.Check{Kind: kind, Path: "/here/good", Host: "www.example.com"}, at); got != up() || host != "www.example.com" {
			t.Errorf("%s: %+v, Host %q", kind, got, host)
		}
	}
}

func TestHTTPWithOthers(t *testing.T) {
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tls.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	early := func(c net.Conn) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		silent(c)
	}
	for name, test := range map[string]struct {
		kind check.Kind
		at   string
		want verdict.Finding
	}{
		"who answers before it is asked": {check.HTTP, talk(t, early), up()},
		"nobody":                         {check.HTTP, nobody(t), down(verdict.Refused, 0)},
		"https with plain":               {check.HTTPS, plain.Listener.Addr().String(), down(verdict.Handshake, 0)},
		"http with TLS":                  {check.HTTP, tls.Listener.Addr().String(), down(verdict.HTTPStatus, 400)},
		"who says nothing":               {check.HTTP, talk(t, silent), down(verdict.TimedOut, 0)},
		"TLS, nothing is said":           {check.HTTPS, talk(t, silent), down(verdict.TimedOut, 0)},
		"who hangs up":                   {check.HTTP, talk(t, func(net.Conn) {}), down(verdict.Closed, 0)},
		"another protocol":               {check.HTTP, talk(t, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example.com ESMTP\r\n"); silent(c) }), down(verdict.Malformed, 0)},
		"endless header": {check.HTTP, talk(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			for {
				if _, err := c.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}), down(verdict.Malformed, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := 3 * time.Second
			if test.want == down(verdict.TimedOut, 0) {
				timeout /= 10
			}
			if got := ask(t, check.Check{Kind: test.kind, Path: "/", Timeout: timeout}, test.at); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// TestNothingIsLogged: net/http would log, whole, what a server says that was not
// asked.
func TestNothingIsLogged(t *testing.T) {
	var said strings.Builder
	log.SetOutput(&said)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	at := talk(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "220 mail.example.com ESMTP\r\n")
		silent(c)
	})
	for range 20 {
		ask(t, check.Check{Kind: check.HTTP, Path: "/"}, at)
	}
	if said.Len() > 0 {
		t.Error(said.String())
	}
}

// TestStoppedCheckSaysNothing: that this node stops is nothing about a backend.
func TestStoppedCheckSaysNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	p := asker()
	p.do, p.slots, p.targets = p.check, make(chan struct{}, 1), map[check.Key]*target{}
	tg := &target{slots: make(chan struct{}, 1), Target: check.Target{Check: check.Check{Kind: check.HTTP, Path: "/", Timeout: 5 * time.Second, Interval: time.Second, Failures: 1, Successes: 1}, At: netip.MustParseAddrPort(talk(t, silent))}, asked: time.Now()}
	p.watch(ctx, tg)
	if got := tg.streak.Finding(); got != (verdict.Finding{}) || !tg.noted.IsZero() {
		t.Errorf("%+v", got)
	}
}

// health answers as a gRPC server; body is in hex, status that of the trailer.
func health(contentType, body, status string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		want := framed(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "shop.Cart"))
		if r.ProtoMajor != 2 || r.URL.Path != "/grpc.health.v1.Health/Check" || r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Te") != "trailers" || string(asked) != string(want) {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Type", contentType)
		if body == "" && status != "" {
			w.Header().Set("Grpc-Status", status) // all in one
			return
		}
		b, err := hex.DecodeString(strings.ReplaceAll(body, " ", ""))
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(b)
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
	})
}

func TestGRPC(t *testing.T) {
	for name, test := range map[string]struct {
		contentType, body, status string
		want                      verdict.Finding
	}{
		"serving":            {"application/grpc", "00 00000002 0801", "0", up()},
		"serving, protobuf":  {"application/grpc+proto", "00 00000002 0801", "0", up()},
		"more fields":        {"application/grpc", "00 00000007 1203616263 0801", "0", up()},
		"not serving":        {"application/grpc", "00 00000002 0802", "0", down(verdict.NotServing, 2)},
		"unknown":            {"application/grpc", "00 00000000", "0", down(verdict.NotServing, 0)},
		"no such service":    {"application/grpc", "", "5", down(verdict.GRPCStatus, 5)},
		"not implemented":    {"application/grpc", "00 00000000", "12", down(verdict.GRPCStatus, 12)},
		"status is no text":  {"application/grpc", "", "x", down(verdict.GRPCStatus, 2)},
		"no status":          {"application/grpc", "00 00000002 0801", "", down(verdict.GRPCStatus, 2)},
		"a web page":         {"text/html", "3c", "0", down(verdict.Malformed, 0)},
		"no body":            {"application/grpc", "00", "0", down(verdict.Malformed, 0)},
		"wrong length":       {"application/grpc", "00 00000003 0801", "0", down(verdict.Malformed, 0)},
		"compressed":         {"application/grpc", "01 00000002 0801", "0", down(verdict.Malformed, 0)},
		"cut":                {"application/grpc", "00 00000001 08", "0", down(verdict.Malformed, 0)},
		"state beyond":       {"application/grpc", "00 0000000b 08ffffffffffffffffff01", "0", down(verdict.NotServing, 65535)},
		"field without type": {"application/grpc", "00 00000001 0f", "0", down(verdict.Malformed, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(health(test.contentType, test.body, test.status))
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			server.Start()
			t.Cleanup(server.Close)
			if got := ask(t, check.Check{Kind: check.GRPC, Service: "shop.Cart"}, server.Listener.Addr().String()); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

func TestGRPCWithOthers(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for name, at := range map[string]string{"HTTP/1": plain.Listener.Addr().String(), "nothing": talk(t, silent), "nobody": nobody(t)} {
		got := ask(t, check.Check{Kind: check.GRPC, Timeout: 300 * time.Millisecond}, at)
		if got.State != verdict.Down {
			t.Errorf("%s: %+v", name, got)
		}
		t.Logf("%s: %s", name, got.Because())
	}
}

// TestOwnFault: a node that has no sockets left says nothing of backends.
func TestOwnFault(t *testing.T) {
	for _, err := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL} {
		if got := failed(fmt.Errorf("dial: %w", err)); got != (verdict.Finding{}) {
			t.Errorf("%v: %+v", err, got)
		}
	}
}
