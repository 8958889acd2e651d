package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// Check is one thing that has to be so. It returns nil, or why it is not.
type Check struct {
	Name  string
	Check func() error
}

// Options are what a Server serves.
type Options struct {
	// Address is where /livez, /readyz and /healthz are answered, MetricsAddress where
	// /metrics is; both host:port, the second may be empty for none.
	Address, MetricsAddress string
	Gatherer                prometheus.Gatherer
	Log                     *slog.Logger
}

// Server listens already, and answers when it runs.
type Server struct {
	options         Options
	health, metrics net.Listener // metrics may be nil
}

// Listen takes the addresses. It fails when one cannot be had: another process
// of the node has it, which may be another Signpost. Call Run or
// Close in the end.
func Listen(ctx context.Context, o Options) (*Server, error) {
	s := &Server{options: o}
	var err error
	if s.health, err = listen(ctx, "health", o.Address, o.Log); err != nil {
		return nil, err
	}
	if o.MetricsAddress == "" {
		return s, nil
	}
	if s.metrics, err = listen(ctx, "metrics", o.MetricsAddress, o.Log); err != nil {
		return nil, errors.Join(err, s.health.Close())
	}
	return s, nil
}

func listen(ctx context.Context, what, address string, log *slog.Logger) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s.bindAddress: %w", what, err)
	}
	log.Info("serving "+what, "address", listener.Addr().String())
	return listener, nil
}

// Run answers until ctx ends, which it returns nil for: /livez by the checks of
// live, /readyz by those of ready. /healthz, which load balancers ask of kube-proxy at the
// same port, is answered by healthz, or like /readyz if that is nil.
func (s *Server) Run(ctx context.Context, live, ready []Check, healthz http.Handler) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, s.health, probes(live, ready, healthz)) })
	if s.metrics != nil {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(s.options.Gatherer, promhttp.HandlerOpts{}))
		group.Go(func() error { return serve(ctx, s.metrics, mux) })
	}
	return group.Wait()
}

// Close gives the addresses back, if Run has not done so.
func (s *Server) Close() {
	_ = s.health.Close()
	if s.metrics != nil {
		_ = s.metrics.Close()
	}
}

func probes(live, ready []Check, healthz http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /livez", answer(live))
	mux.Handle("GET /readyz", answer(ready))
	if healthz == nil {
		healthz = answer(ready)
	}
	mux.Handle("GET /healthz", healthz)
	return mux
}

// answer lists every check, as the API server's own probes do, so that whoever
// asks by hand sees what it is that fails.
func answer(checks []Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var text strings.Builder
		status := http.StatusOK
		for _, c := range checks {
			if err := c.Check(); err != nil {
				status = http.StatusServiceUnavailable
				fmt.Fprintf(&text, "[-] %s: %v\n", c.Name, err)
			} else {
				fmt.Fprintf(&text, "[+] %s\n", c.Name)
			}
		}
		if status == http.StatusOK {
			text.WriteString("ok\n")
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text.String()))
	})
}

func serve(ctx context.Context, at net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(at); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving at %s: %w", at.Addr(), err)
	}
	return nil
}
