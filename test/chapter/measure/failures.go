package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/signpost-dev/signpost/test/chapter/trial"
)

// tenPods is the size of the Deployment where its size matters.
const tenPods = 10

func (f figures) rollout(ctx context.Context, b *trial.Bench) error {
	all := map[bool]int{}
	failed := map[bool]int{}
	for _, slow := range []bool{false, true} {
		for _, gated := range []bool{false, true} {
			for _, lameDuck := range []time.Duration{0, time.Second, 5 * time.Second} {
				r, err := b.Rollout(ctx, trial.Rollout{Replicas: tenPods, LameDuck: lameDuck, Gated: gated, Slow: slow, Rate: f.rate, Kept: f.kept})
				if err != nil {
					return err
				}
				fmt.Printf("rollout: gate %v, slow node %v, pods accept for %v after SIGTERM, took %v: new connections: %v %v; kept: %v %v\n",
					gated, slow, lameDuck, r.Took.Round(time.Second), r.New, r.New.Reasons(), r.Kept, r.Kept.Reasons())
				all[gated] += r.New.Total + r.Kept.Total
				failed[gated] += len(r.New.Failed) + len(r.Kept.Failed)
			}
		}
	}
	fmt.Printf("rollout: without the gate %d of %d failed, with it %d of %d\n", failed[false], all[false], failed[true], all[true])
	return nil
}

func (f figures) leader(ctx context.Context, b *trial.Bench) error {
	if err := tenReady(ctx, b); err != nil {
		return err
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for range f.kills {
			h, err := b.HandOver(ctx, signal)
			if err != nil {
				return err
			}
			fmt.Printf("leader: %v of %s, next is %s: longest time without a publication %v, before %v; %d publications, all as the pods are\n",
				signal, h.From, h.To, micro(h.After), micro(h.Before), h.Changes)
		}
	}
	return nil
}

func (f figures) freeze(ctx context.Context, b *trial.Bench) error {
	if err := tenReady(ctx, b); err != nil {
		return err
	}
	for range f.kills {
		fr, err := b.Freeze(ctx, 100)
		if err != nil {
			return err
		}
		fmt.Printf("freeze: %s: no endpoint of it after %v, last failed connection %v after its death (%d of them after the endpoints had left), endpoints back %v after its return: %v %v\n",
			fr.Node, micro(fr.Left), micro(fr.LastFailed), fr.Late, micro(fr.Back), fr.HTTP, fr.HTTP.Reasons())
	}
	return nil
}

func (f figures) cutOff(ctx context.Context, b *trial.Bench) error {
	if err := tenReady(ctx, b); err != nil {
		return err
	}
	p, err := b.Partition(ctx, f.partition, 100)
	if err != nil {
		return err
	}
	fmt.Printf("partition: kubelets away for %v: at least %d of %d endpoints were ready: %v %v\n", f.partition, p.Least, tenPods, p.HTTP, p.HTTP.Reasons())
	return nil
}

func (f figures) damage(ctx context.Context, b *trial.Bench) error {
	for _, d := range trial.Damages() {
		for range f.kills {
			m, err := b.Damage(ctx, d, f.rate)
			if err != nil {
				return fmt.Errorf("%s: %w", d.Name, err)
			}
			fmt.Printf("damage: %s: as before after %v: %v %v\n", d.Name, micro(m.After), m.HTTP, m.HTTP.Reasons())
		}
	}
	return nil
}

// namesRate is how often per second names are asked for.
const namesRate = 1000

func (f figures) names(ctx context.Context, b *trial.Bench) error {
	for _, i := range trial.Interruptions() {
		for range f.kills {
			took, dns, err := b.Names(ctx, i, namesRate)
			if err != nil {
				return fmt.Errorf("%s: %w", i.Name, err)
			}
			fmt.Printf("names: %s, all ready after %v: %v %v\n", i.Name, took.Round(time.Millisecond), dns, dns.Reasons())
		}
	}
	return nil
}

func tenReady(ctx context.Context, b *trial.Bench) error {
	if err := b.Scale(ctx, tenPods); err != nil {
		return err
	}
	return b.AwaitEndpoints(ctx, tenPods)
}
