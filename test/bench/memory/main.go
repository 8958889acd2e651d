package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/bench/usage"
	"github.com/signpost-dev/signpost/test/bench/world"
	"github.com/signpost-dev/signpost/test/host"
)

const (
	// settles is how long a daemon is left alone before it is looked at.
	settles = 30 * time.Second
	// readyLimit is for a daemon to have read and programmed everything.
	readyLimit = 5 * time.Minute
)

func main() {
	services := flag.Int("services", 2000, "Services")
	pods := flag.Int("pods", 5, "pods of each")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, world.Shape{Services: *services, PodsEach: *pods}); err != nil {
		fmt.Fprintln(os.Stderr, "memory:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s world.Shape) (err error) {
	dir, err := os.MkdirTemp("", "signpost-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "signpost")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/signpost-dev/signpost/cmd/signpost")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build Signpost: %w\n%s", err, out)
	}
	server, err := apiserver.Start(ctx, apiserver.Options{Args: []string{"--max-requests-inflight=3000", "--max-mutating-requests-inflight=1000"}})
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }()
	if _, err := world.New(ctx, server, s); err != nil {
		return err
	}
	var nodes []*host.Host
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.Stop())
		}
	}()
	// The first one has the lead when the second one comes.
	for _, name := range []string{"node-0", "node-1"} {
		n, startErr := host.New(dir, name, server)
		if startErr != nil {
			return startErr
		}
		nodes = append(nodes, n)
		if err := n.StartSignpost(ctx, binary, ""); err != nil {
			return err
		}
		if err := n.AwaitReady(ctx, "http://127.0.0.1:10256/readyz", readyLimit); err != nil {
			return err
		}
		time.Sleep(settles)
	}
	for i, role := range []string{"leader", "follower"} {
		u, err := usage.Of(nodes[i].PID())
		if err != nil {
			return err
		}
		fmt.Printf("%v pods, %s: %s MiB resident (at most), %v of CPU so far\n", s, role, u.Memory(), u.CPU)
	}
	return nil
}
