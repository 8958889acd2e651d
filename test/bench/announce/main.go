package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/test/announcing"
)

func main() {
	announcing.Be()
	rounds := flag.Int("rounds", 200, "how often a node fails in each way")
	atOnce := flag.Int("at-once", 4, "on how many links at the same time")
	addresses := flag.Int("addresses", 4, "how many addresses there are on a link")
	only := flag.String("only", "", "the one way to fail that is of interest, by its name in the table")
	spread := flag.Int("spread", 0, "say instead how so many addresses are spread")
	flag.Parse()
	var err error
	if *spread > 0 {
		err = measureSpread(*spread)
	} else {
		err = measure(*rounds, *atOnce, *addresses, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// period is the time between two questions for an address.
const period = 10 * time.Millisecond

func names() []string { return []string{"a", "b", "c"} }

func measure(rounds, atOnce, addresses int, only string) error {
	fmt.Printf("%d rounds each, %d at a time; %d addresses, asked for every %v; in milliseconds\n\n", rounds, atOnce, addresses, period)
	fmt.Printf("%-20s %10s %9s %9s %9s %9s %9s %14s %14s %9s\n", "what happens", "addresses", "over p50", "p99", "longest", "none p50", "p99", "two owners, s", "times", "needless")
	for _, fault := range announcing.Faults() {
		if only != "" && only != string(fault) {
			continue
		}
		all := &tally{}
		var todo sync.Mutex
		left := rounds
		group, ctx := errgroup.WithContext(context.Background())
		for range atOnce {
			group.Go(func() error {
				return onLink(ctx, fault, addresses, all, func() bool {
					todo.Lock()
					defer todo.Unlock()
					left--
					return left >= 0
				})
			})
		}
		if err := group.Wait(); err != nil {
			return fmt.Errorf("%s: %w", fault, err)
		}
		all.print(fault)
	}
	return nil
}

// tally is what came of all rounds.
type tally struct {
	mu         sync.Mutex
	over, none []time.Duration
	double     time.Duration
	doubles    int
	needless   int
}

func (t *tally) print(fault announcing.Fault) {
	ms := func(in []time.Duration, share float64) int64 {
		if len(in) == 0 {
			return -1
		}
		slices.Sort(in)
		return in[min(len(in)-1, int(share*float64(len(in))))].Milliseconds()
	}
	fmt.Printf("%-20s %10d %9d %9d %9d %9d %9d %14.3f %14d %9d\n", fault, len(t.over),
		ms(t.over, 0.5), ms(t.over, 0.99), ms(t.over, 1), ms(t.none, 0.5), ms(t.none, 0.99), t.double.Seconds(), t.doubles, t.needless)
}

// onLink does rounds on a link of its own while there are more.
func onLink(ctx context.Context, fault announcing.Fault, addresses int, all *tally, more func() bool) (err error) {
	rig, err := announcing.NewRig(names(), announcing.Addresses(addresses), period)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	for _, name := range rig.Names {
		if err := rig.Start(name); err != nil {
			return err
		}
	}
	for more() {
		if err := round(ctx, rig, fault, all); err != nil {
			return err
		}
	}
	return nil
}

const (
	// limit is how long anything may take.
	limit = 30 * time.Second
	// settled is how long a node is back before it has a vote and has been heard.
	settled = 3 * time.Second
	// after is for how long the record goes on when all is done.
	after = time.Second
)

func round(ctx context.Context, rig *announcing.Rig, fault announcing.Fault, all *tally) error {
	before, err := await(ctx, rig)
	if err != nil {
		return fmt.Errorf("before it begins: %w", err)
	}
	victim := before[rig.Addresses[rand.IntN(len(rig.Addresses))]]
	sleep(ctx, rand.N(250*time.Millisecond))
	rig.Witness.Forget()
	began := time.Now()
	if err := rig.Do(ctx, fault, victim); err != nil {
		return err
	}
	if _, err := await(ctx, rig, victim); err != nil {
		return fmt.Errorf("without %s: %w", victim, err)
	}
	sleep(ctx, after)
	if err := rig.Undo(ctx, fault, victim); err != nil {
		return err
	}
	sleep(ctx, settled)
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, a := range rig.Addresses {
		all.add(announcing.Moves(rig.Witness.Heard(a)), began, before[a] == victim)
	}
	return nil
}

// add takes in what was heard about one address in a round. It should have moved
// once, if its node failed.
func (t *tally) add(moves []announcing.Move, began time.Time, failed bool) {
	for i, m := range moves {
		if m.Double > 0 {
			t.double += m.Double
			t.doubles++
		}
		if i > 0 || !failed {
			t.needless++
			continue
		}
		last := m.Last
		if last.Before(began) {
			last = began
		}
		t.over = append(t.over, m.First.Sub(began))
		t.none = append(t.none, m.First.Sub(last))
	}
}

// await waits until each address has an owner that is none of these, and returns
// the owners.
func await(ctx context.Context, rig *announcing.Rig, but ...string) (map[netip.Addr]string, error) {
	for began := time.Now(); ; sleep(ctx, 10*time.Millisecond) {
		owners := rig.Owners()
		switch {
		case announcing.Owned(owners, but...):
			return owners, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case time.Since(began) > limit:
			return nil, fmt.Errorf("not all addresses have an owner after %v: %v", limit, owners)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// measureSpread says which node has how many addresses.
func measureSpread(n int) (err error) {
	// All are asked for once a second: more would be the measurement's own load.
	rig, err := announcing.NewRig(names(), announcing.Addresses(n), time.Second)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	ctx := context.Background()
	began := time.Now()
	for _, name := range rig.Names {
		if err := rig.Start(name); err != nil {
			return err
		}
	}
	took, err := owned(rig, began)
	if err != nil {
		return err
	}
	report("from nothing", rig, took)
	began = time.Now()
	rig.Processes["a"].Kill()
	if took, err = owned(rig, began, "a"); err != nil {
		return err
	}
	report("a killed", rig, took)
	if err := rig.Start("a"); err != nil {
		return err
	}
	sleep(ctx, settled)
	report("a is back", rig, settled)
	for _, name := range rig.Names {
		rig.Processes[name].Stop()
		if err := rig.Start(name); err != nil {
			return err
		}
		sleep(ctx, settled)
	}
	began = time.Now()
	if took, err = owned(rig, began); err != nil {
		return err
	}
	report("all restarted, one after the other", rig, took)
	return nil
}

// owned waits until each address was heard to be with a node that is none of
// these since it was called, and returns when the last one was heard first.
func owned(rig *announcing.Rig, began time.Time, but ...string) (time.Duration, error) {
	for time.Since(began) < limit {
		done, last := true, began
		for _, a := range rig.Addresses {
			heard := rig.Witness.Heard(a)
			i := slices.IndexFunc(heard, func(h announcing.Answer) bool { return h.At.After(began) && !slices.Contains(but, rig.Name(h.MAC)) })
			if i < 0 {
				done = false
				break
			}
			if heard[i].At.After(last) {
				last = heard[i].At
			}
		}
		if done {
			return last.Sub(began), nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 0, fmt.Errorf("not all addresses have an owner after %v", limit)
}

func report(what string, rig *announcing.Rig, took time.Duration) {
	time.Sleep(1500 * time.Millisecond) // all are asked for again
	counts, nobody := map[string]int{}, 0
	two := map[netip.Addr]bool{}
	for _, a := range rig.Addresses {
		heard := rig.Witness.Heard(a)
		if len(heard) == 0 {
			nobody++
			continue
		}
		counts[rig.Name(heard[len(heard)-1].MAC)]++
		for _, m := range announcing.Moves(heard) {
			if m.Double > 0 {
				two[a] = true
			}
		}
	}
	fmt.Printf("%-36s %6d ms  %v, nobody: %d, two owners: %d\n", what, took.Milliseconds(), counts, nobody, len(two))
	rig.Witness.Forget()
}
