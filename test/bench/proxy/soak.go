package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/signpost-dev/signpost/test/bench/usage"
)

const (
	// soakChanges and soakConnections are per second.
	soakChanges     = 20
	soakConnections = 1000
	// memoryEach is how often memory is looked at.
	memoryEach = time.Minute
)

// soak changes the first half of the Services at random and connects to the second half, which
// nobody touches, for so long. It prints what failed, and the memory over time.
func (t *trial) soak(ctx context.Context, length time.Duration) error {
	before, err := t.settle(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, length)
	defer stop()
	disturbed := make(chan error, 1)
	changes := 0
	go func() {
		disturbed <- every(ctx, soakChanges, func() error { changes++; return t.cluster.disturb(context.WithoutCancel(ctx)) })
	}()
	watched := make(chan error, 1)
	var memory []int64
	go func() { watched <- every(ctx, 1/memoryEach.Seconds(), func() error { return t.remember(&memory) }) }()
	made, failed, late := 0, 0, time.Duration(0)
	err = t.client()(func() error {
		half := len(t.cluster.services) / 2
		return every(ctx, soakConnections, func() error {
			made++
			_, took, err := connect(t.cluster.services[half+rand.IntN(half)].addr, true)
			if err != nil {
				failed++
				fmt.Printf("%s: connection %d: %v\n", t.contender.name, made, err)
			}
			late = max(late, took)
			return nil
		})
	})
	if err := errors.Join(err, <-disturbed, <-watched); err != nil {
		return err
	}
	var used usage.Usage
	if err := used.Since(before, t.PID()); err != nil {
		return err
	}
	fmt.Printf("%s, %v: %d changes in %v, %d connections to other Services, %d failed, slowest %v; CPU %v; MiB resident each %v: %v\n",
		t.contender.name, t.cluster.shape, changes, length, made, failed, short(late), short(used.CPU), memoryEach, memory)
	return nil
}

func (t *trial) remember(memory *[]int64) error {
	u, err := usage.Of(t.PID())
	*memory = append(*memory, u.Resident>>20)
	return err
}

// every calls f so often per second until ctx ends, which is no error.
func every(ctx context.Context, rate float64, f func() error) error {
	pause := time.Duration(float64(time.Second) / rate)
	for next := time.Now(); ; next = next.Add(pause) {
		if wait := time.Until(next); wait > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := f(); err != nil {
			return err
		}
	}
}
