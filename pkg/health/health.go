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

// Options are what Run serves.
type Options struct {
	// Address is where /livez and /readyz are answered, MetricsAddress where
	// /metrics is; both host:port, the second may be empty for none.
	Address, MetricsAddress string
	Live, Ready             []Check
	Gatherer                prometheus.Gatherer
	Log                     *slog.Logger
}

// Run serves until ctx ends, which it returns nil for. It fails when an address
// cannot be listened on.
func Run(ctx context.Context, o Options) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, "health", o.Address, probes(o), o.Log) })
	if o.MetricsAddress != "" {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
		group.Go(func() error { return serve(ctx, "metrics", o.MetricsAddress, mux, o.Log) })
	}
	return group.Wait()
}

func probes(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /livez", answer(o.Live))
	mux.Handle("GET /readyz", answer(o.Ready))
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

func serve(ctx context.Context, what, address string, h http.Handler, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%s.bindAddress: %w", what, err)
	}
	log.Info("serving "+what, "address", listener.Addr().String())
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %s: %w", what, err)
	}
	return nil
}
