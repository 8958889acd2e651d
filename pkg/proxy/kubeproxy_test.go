package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/signpost-dev/signpost/pkg/proxy"
)

func TestAwaitNoKubeProxy(t *testing.T) {
	for name, tt := range map[string]struct {
		path, answer string
		waits        bool
	}{
		"kube-proxy":       {"/proxyMode", "iptables", true},
		"in another mode":  {"/proxyMode", "nftables\n", true},
		"somebody else":    {"/proxyMode", "<html>", false},
		"another Signpost": {"/metrics", "signpost_ 1", false},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != tt.path {
					http.NotFound(w, r)
					return
				}
				_, _ = io.WriteString(w, tt.answer)
			}))
			defer server.Close()
			address := strings.TrimPrefix(server.URL, "http://")
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := proxy.AwaitNoKubeProxy(ctx, address, slog.New(slog.NewTextHandler(&out, nil)))
			if waits := errors.Is(err, context.DeadlineExceeded); waits != tt.waits {
				t.Errorf("waits: %v, want %v (%v)", waits, tt.waits, err)
			}
			if said := strings.Contains(out.String(), "proxy.enabled: false"); said != tt.waits {
				t.Errorf("says %q", out.String())
			}
			server.Close()
			if err := proxy.AwaitNoKubeProxy(t.Context(), address, slog.New(slog.DiscardHandler)); err != nil {
				t.Errorf("nobody is there: %v", err)
			}
		})
	}
}
