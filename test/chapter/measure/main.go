package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/test/chapter/lab"
	"github.com/signpost-dev/signpost/test/chapter/trial"
)

// figures are the measurements by name.
type figures struct {
	changes, curls, rounds, kills, kept int
	rate                                float64
	over, outage, partition             time.Duration
}

func main() {
	var f figures
	flag.IntVar(&f.changes, "n", 200, "readiness: changes each way")
	flag.Float64Var(&f.rate, "rate", 500, "readiness, rollout, damage: new connections per second")
	flag.IntVar(&f.curls, "curls", 1000, "churn: requests")
	flag.IntVar(&f.rounds, "rounds", 5, "churn: how often to scale to 10 and to 2")
	flag.DurationVar(&f.over, "over", time.Minute, "churn: how long")
	flag.IntVar(&f.kills, "kills", 1, "kill, leader, freeze, damage, names: how often")
	flag.IntVar(&f.kept, "kept", 50, "rollout: connections that are kept")
	flag.DurationVar(&f.partition, "partition", 90*time.Second, "partition: how long the kubelets are away")
	flag.DurationVar(&f.outage, "outage", time.Minute, "outage: how long the API server is away")
	verbose := flag.Bool("v", false, "print the commands")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	out := io.Discard
	if *verbose {
		out = os.Stderr
	}
	if err := f.run(ctx, out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func (f figures) run(ctx context.Context, out io.Writer, names []string) (err error) {
	all := map[string]func(context.Context, *trial.Bench) error{
		"readiness": f.readiness, "churn": f.churn, "kill": f.kill, "outage": f.away,
		"rollout": f.rollout, "leader": f.leader, "freeze": f.freeze, "partition": f.cutOff, "damage": f.damage,
		"names": f.names,
	}
	known := []string{"readiness", "churn", "kill", "outage", "rollout", "leader", "freeze", "partition", "damage", "names"}
	if len(names) == 0 {
		names = known
	}
	for _, n := range names {
		if all[n] == nil {
			return fmt.Errorf("%q is none of %s", n, strings.Join(known, ", "))
		}
	}
	c, err := lab.Open(ctx, out)
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := trial.NewBench(ctx, c, 3)
	if err != nil {
		return err
	}
	// Also after an interrupt the namespace has to go.
	defer func() {
		if removeErr := b.Remove(context.WithoutCancel(ctx)); err == nil {
			err = removeErr
		}
	}()
	for _, n := range names {
		if err := all[n](ctx, b); err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	return nil
}

func (f figures) readiness(ctx context.Context, b *trial.Bench) error {
	fromAnswer, fromBegin, err := b.WatchDelay(ctx, 100)
	if err != nil {
		return err
	}
	fmt.Printf("readiness: a watch tells a write p50 %v after its answer and %v after its begin (p99 %v, %v): times below start at the watch\n",
		micro(trial.Percentile(fromAnswer, 50)), micro(trial.Percentile(fromBegin, 50)),
		micro(trial.Percentile(fromAnswer, 99)), micro(trial.Percentile(fromBegin, 99)))
	endpoint, packet := map[bool][]time.Duration{}, map[bool][]time.Duration{}
	failed, after := 0, 0
	err = b.Readiness(ctx, f.changes, f.rate, func(flip trial.Flip) {
		endpoint[flip.Ready] = append(endpoint[flip.Ready], flip.Endpoint)
		packet[flip.Ready] = append(packet[flip.Ready], flip.Packet)
		failed += flip.Failed
		after += flip.After
	})
	if err != nil {
		return err
	}
	for _, ready := range []bool{false, true} {
		which := map[bool]string{false: "not ready -> last packet ", true: "ready     -> first packet"}[ready]
		fmt.Printf("readiness: %s p50 %v p99 %v max %v; EndpointSlice p50 %v p99 %v; %d changes\n", which,
			micro(trial.Percentile(packet[ready], 50)), micro(trial.Percentile(packet[ready], 99)), micro(slices.Max(packet[ready])),
			micro(trial.Percentile(endpoint[ready], 50)), micro(trial.Percentile(endpoint[ready], 99)), len(packet[ready]))
	}
	fmt.Printf("readiness: %d connections failed, %d reached a pod after it was told not ready; a pod is asked every %v or so\n",
		failed, after, micro(time.Duration(3*float64(time.Second)/f.rate)))
	return nil
}

func (f figures) churn(ctx context.Context, b *trial.Bench) error {
	tally, scaled, err := b.Churn(ctx, f.curls, f.rounds, f.over)
	if err != nil {
		return err
	}
	fmt.Printf("churn: 3 -> (10 -> 2) x %d over %v: %v\n", f.rounds, f.over, tally)
	for _, s := range tally.Failed {
		last := trial.Scaled{}
		for _, x := range scaled {
			if x.At.Before(s.Begin) {
				last = x
			}
		}
		fmt.Printf("churn: failed %v after scaling to %d: %s\n", s.Begin.Sub(last.At).Round(time.Millisecond), last.Replicas, s.Err)
	}
	return nil
}

func (f figures) kill(ctx context.Context, b *trial.Bench) error {
	for range f.kills {
		k, err := b.Kill(ctx, 100)
		if err != nil {
			return err
		}
		fmt.Printf("kill: %s: new process after %v (the kubelet), ready %v after its start\n", k.Node, micro(k.Restart), micro(k.Ready))
		fmt.Printf("kill: packets: %v %v\n", k.HTTP, k.HTTP.Reasons())
		fmt.Printf("kill: names:   %v %v\n", k.DNS, k.DNS.Reasons())
	}
	return nil
}

func (f figures) away(ctx context.Context, b *trial.Bench) error {
	o, err := b.Outage(ctx, f.outage, 20)
	if err != nil {
		return err
	}
	fmt.Printf("outage: %v without the API server; a new Service was created %v after its return and worked %v later\n", f.outage, micro(o.Created), micro(o.Works))
	fmt.Printf("outage: packets: %v %v\n", o.HTTP, o.HTTP.Reasons())
	fmt.Printf("outage: names:   %v %v\n", o.DNS, o.DNS.Reasons())
	return nil
}

func micro(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
