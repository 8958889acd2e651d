//go:build integration

package names

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/signpost-dev/signpost/pkg/dns"
	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/watchcache"
	"github.com/signpost-dev/signpost/test/apiserver"
)

// startSignpost starts the watch cache and the name server of a node, as the
// daemon joins them, and returns how to reach the server.
func startSignpost(t *testing.T, server *apiserver.Server, upstream netip.AddrPort) *client {
	t.Helper()
	log := &logBuffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	httpClient, err := rest.HTTPClientFor(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	watched, err := watchcache.New(watchcache.Options{
		Config: server.Config(), HTTPClient: httpClient, NodeName: "node1", Log: logger, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	names, err := dns.New(dns.Options{
		Snapshots: watched, TTL: 30 * time.Second, Pods: records.PodsInsecure,
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, AddressesAreLocal: true,
		Upstreams: []string{upstream.String()}, Registerer: registry, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{watched.Run, names.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if t.Failed() {
			t.Logf("the log of Signpost:\n%s", log)
		}
	})
	eventually(t, "Signpost listens", func() error {
		if len(names.Serving()) == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	return &client{addr: names.Serving()[0]}
}

// logBuffer may be written and read at the same time.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// eventually tries until it works. The limit is for a busy machine.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var last error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if last = try(); last == nil {
			return
		}
	}
	t.Fatalf("%s: not after a minute: %v", what, last)
}
