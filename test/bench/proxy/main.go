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
	"github.com/signpost-dev/signpost/test/bench/world"
)

// plan is what to measure.
type plan struct {
	shapes []world.Shape
	rates  []float64
	length time.Duration
	rounds int
	soak   time.Duration
	fresh  int
}

func main() {
	shapes := flag.String("shapes", "1000x10,10000x10", "clusters, as Services x endpoints of each")
	rates := flag.String("rates", "10,100", "changes of other Services per second")
	length := flag.Duration("for", 20*time.Second, "how long to make changes at each rate")
	rounds := flag.Int("rounds", 1, "how often each contender has its turn")
	soak := flag.Duration("soak", 0, "instead of all else, change Services at random for so long beside connections to others")
	fresh := flag.Int("fresh", 0, "instead of all else, create so many Services, and resolve and connect to each at once")
	only := flag.String("only", "", "part of the name of the contenders to measure, all if empty")
	flag.Parse()
	p, err := parse(*shapes, *rates)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	p.length, p.rounds, p.soak, p.fresh = *length, *rounds, *soak, *fresh
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, p, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench-proxy:", err)
		os.Exit(1)
	}
}

func parse(shapes, rates string) (plan, error) {
	var p plan
	for text := range strings.SplitSeq(shapes, ",") {
		var s world.Shape
		if _, err := fmt.Sscanf(text, "%dx%d", &s.Services, &s.PodsEach); err != nil || s.Services <= single || s.PodsEach < 1 {
			return p, fmt.Errorf("-shapes: %q is not like 1000x10, of more than %d Services", text, single)
		}
		p.shapes = append(p.shapes, s)
	}
	p.rates = []float64{0} // the changes that are watched, alone
	for text := range strings.SplitSeq(rates, ",") {
		if text == "" {
			continue
		}
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
	all, err := contenders(ctx, dir, only)
	if err != nil {
		return err
	}
	if p.soak == 0 && p.fresh == 0 {
		head()
	}
	for _, s := range p.shapes {
		if err := runShape(ctx, p, s, all); err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
	}
	return nil
}

// runShape measures all contenders on one cluster, in turns.
func runShape(ctx context.Context, p plan, s world.Shape, all []contender) error {
	server, err := apiserver.Start(ctx, apiserver.Options{Args: []string{"--max-requests-inflight=3000", "--max-mutating-requests-inflight=1000"}})
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop() }()
	c, err := newCluster(ctx, server, s)
	if err != nil {
		return err
	}
	results := make([]*result, len(all))
	for i := range all {
		results[i] = &result{updates: make([]updates, len(p.rates))}
	}
	for round := range p.rounds {
		for i, who := range all {
			if results[i].late {
				continue
			}
			fmt.Fprintf(os.Stderr, "%v, round %d of %d: %s\n", s, round+1, p.rounds, who.name)
			if err := measure(ctx, server, c, who, p, results[i]); err != nil {
				return fmt.Errorf("%s: %w", who.name, err)
			}
			if p.soak > 0 || p.fresh > 0 {
				continue
			}
			if round == p.rounds-1 || results[i].late {
				report(s, who.name, results[i])
			}
		}
	}
	return nil
}
