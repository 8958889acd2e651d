package health

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestProbes(t *testing.T) {
	fails := Check{"rules", func() error { return errors.New("none yet") }}
	holds := Check{"names", func() error { return nil }}
	for _, tt := range []struct {
		path   string
		status int
		body   string
	}{
		{"/livez", 200, "[+] names\nok\n"},
		{"/readyz", 503, "[-] rules: none yet\n[+] names\n"},
		{"/healthz", 503, "[-] rules: none yet\n[+] names\n"},
		{"/else", 404, "404 page not found\n"},
	} {
		w := httptest.NewRecorder()
		probes([]Check{holds}, []Check{fails, holds}, nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, tt.path, http.NoBody))
		if w.Code != tt.status || w.Body.String() != tt.body {
			t.Errorf("%s: %d %q, want %d %q", tt.path, w.Code, w.Body, tt.status, tt.body)
		}
	}
}

func TestRunServesAndStops(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total", Help: "A test."}))
	address := freeAddress(t)
	o := Options{Address: freeAddress(t), MetricsAddress: address, Gatherer: registry, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	server, err := Listen(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, nil, nil, nil) }()
	if body := get(t, "http://"+address+"/metrics"); !strings.Contains(body, "test_total 0") {
		t.Errorf("metrics are %q", body)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run does not end")
	}
}

func TestListenNamesAnAddressThatIsTaken(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	free := freeAddress(t)
	for _, tt := range []struct{ address, metrics, field string }{
		{taken.Addr().String(), "", "health.bindAddress"},
		{free, taken.Addr().String(), "metrics.bindAddress"},
	} {
		_, err = Listen(t.Context(), Options{Address: tt.address, MetricsAddress: tt.metrics, Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), tt.field) {
			t.Errorf("error %v, want one that names %s", err, tt.field)
		}
	}
	again, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", free)
	if err != nil {
		t.Fatalf("the first address stays taken when the second cannot be had: %v", err)
	}
	_ = again.Close()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	for range 100 {
		resp, err := http.Get(url)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	t.Fatalf("%s is not served", url)
	return ""
}
