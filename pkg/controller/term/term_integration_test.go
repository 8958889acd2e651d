//go:build integration

package term_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/signpost-dev/signpost/pkg/controller/term"
	"github.com/signpost-dev/signpost/test/apiserver"
)

// TestOutageOfARealServer: two candidates; the server goes away and comes back.
// No term outlives its Lease, and after the outage one of them leads again.
func TestOutageOfARealServer(t *testing.T) {
	server, err := apiserver.Start(t.Context(), apiserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	var working, terms atomic.Int32
	var candidates []*term.Candidate
	for i := range 2 {
		c, err := term.New(term.Options{
			Client: kubernetes.NewForConfigOrDie(server.Config()), Identity: fmt.Sprint("node-", i),
			LeaseName: "signpost", LeaseNamespace: "kube-system",
			Candidates: 3, LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
			Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		candidates = append(candidates, c)
		g.Go(func() error {
			return c.Run(ctx, func(ctx context.Context) error {
				if working.Add(1) > 1 {
					t.Error("two terms at once")
				}
				defer working.Add(-1)
				terms.Add(1)
				<-ctx.Done()
				return ctx.Err()
			})
		})
	}
	leaders := func() (n int32) {
		for _, c := range candidates {
			if c.Leading() {
				n++
			}
		}
		return n
	}
	wait := func(what string, want int32) {
		t.Helper()
		began := time.Now()
		for leaders() != want || working.Load() != want {
			if time.Since(began) > 30*time.Second {
				t.Fatalf("%s: %d lead, %d work, want %d", what, leaders(), working.Load(), want)
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("%s: after %v", what, time.Since(began))
	}
	wait("one leads", 1)
	if err := server.StopAPI(); err != nil {
		t.Fatal(err)
	}
	wait("none leads without a server", 0)
	if err := server.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait("one leads again", 1)
	cancel()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if n := terms.Load(); n != 2 {
		t.Errorf("%d terms, want 2", n)
	}
}
