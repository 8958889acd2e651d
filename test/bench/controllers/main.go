package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/bench/usage"
	"github.com/signpost-dev/signpost/test/bench/world"
)

// cluster is what all contenders get in turn.
type cluster struct{ *world.World }

// plan is what to measure.
type plan struct {
	shapes []world.Shape
	rates  []float64
	length time.Duration
}

func main() {
	shapes := flag.String("shapes", "1x5000,2000x5", "clusters, as Services x pods of each")
	rates := flag.String("rates", "10,100", "changes per second")
	length := flag.Duration("for", 20*time.Second, "how long to make changes at each rate")
	only := flag.String("only", "", "part of the name of the contenders to measure, all if empty")
	flag.Parse()
	p, err := parse(*shapes, *rates, *length)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, p, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench-controllers:", err)
		os.Exit(1)
	}
}

func parse(shapes, rates string, length time.Duration) (plan, error) {
	p := plan{length: length}
	for text := range strings.SplitSeq(shapes, ",") {
		var s world.Shape
		if _, err := fmt.Sscanf(text, "%dx%d", &s.Services, &s.PodsEach); err != nil || s.Services < 1 || s.PodsEach < 1 {
			return p, fmt.Errorf("-shapes: %q is not like 2000x5", text)
		}
		p.shapes = append(p.shapes, s)
	}
	for text := range strings.SplitSeq(rates, ",") {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil || rate <= 0 {
			return p, fmt.Errorf("-rates: %q is no number of changes per second", text)
		}
		p.rates = append(p.rates, rate)
	}
	return p, nil
}

func run(ctx context.Context, p plan, only string) error {
	dir, err := os.MkdirTemp("", "signpost-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	contenders, err := contenders(ctx, dir, only)
	if err != nil {
		return err
	}
	head()
	for _, s := range p.shapes {
		if err := runShape(ctx, p, s, contenders); err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
	}
	return nil
}

// runShape measures all contenders in one cluster.
func runShape(ctx context.Context, p plan, s world.Shape, all []contender) error {
	server, err := apiserver.Start(ctx, apiserver.Options{Args: []string{"--max-requests-inflight=3000", "--max-mutating-requests-inflight=1000"}})
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }()
	made, err := world.New(ctx, server, s)
	if err != nil {
		return err
	}
	w := &cluster{made}
	for _, c := range all {
		if err := w.Clear(ctx); err != nil {
			return err
		}
		if err := runContender(ctx, p, w, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// runContender measures one contender at all rates.
func runContender(ctx context.Context, p plan, w *cluster, c contender) error {
	watch, err := w.watch(ctx)
	if err != nil {
		return err
	}
	defer watch.stop()
	began := time.Now()
	program, err := c.start(w.Server)
	if err != nil {
		return err
	}
	defer func() { _ = program.Stop() }()
	if err := watch.awaitAll(ctx, 10*time.Minute); err != nil {
		return fmt.Errorf("%w; the end of its log:\n%s", err, program.Log())
	}
	start := result{contender: c.name, shape: w.Shape, took: time.Since(began), writes: watch.takeWrites()}
	if err := start.cost.Since(usage.Usage{}, program.PID()); err != nil {
		return err
	}
	start.printStart()
	for _, rate := range p.rates {
		r, err := w.changeAt(ctx, rate, p.length, watch, program.PID())
		if err != nil {
			return fmt.Errorf("%v changes/s: %w; the end of its log:\n%s", rate, err, program.Log())
		}
		r.contender = c.name
		r.print()
	}
	return nil
}
