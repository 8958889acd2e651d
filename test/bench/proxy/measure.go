package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/bench/usage"
	"github.com/signpost-dev/signpost/test/host"
)

const (
	// startLimit is how long a contender may take until all Services answer, swapLimit
	// until one follows its slice.
	startLimit = 4 * time.Minute
	swapLimit  = time.Minute
	// sampled is how many Services are asked to find out whether all answer.
	sampled = 64
	// connections is how many are made to each place whose cost is measured.
	connections = 2000
	// askedEach is the pause between two connections that look for a change.
	askedEach = time.Millisecond
	// quiet is how long a program has to use next to no processor to be done.
	quiet = 2 * time.Second
)

// result is what came of a contender.
type result struct {
	start   time.Duration
	late    bool // it did not start within startLimit
	updates []updates
	memory  usage.Usage
	startup time.Duration // processor time of the start
	rules   int
	costs   map[string][]time.Duration // of connections, by place
}

// updates is what came of changes at a rate.
type updates struct {
	rate float64
	// first is until a connection reached the new endpoint, last until none reached the old one.
	first, last []time.Duration
	late        int // swaps that were not seen within swapLimit
	failed      int // connections that were refused or not there within patience
	changes     int
	cpu         time.Duration
}

// trial is a contender with a node of its own.
type trial struct {
	*host.Host
	cluster   *cluster
	contender contender
	result    *result
	// bare is a node without any rules.
	bare *host.Host
}

// measure lets a contender show what it can, and adds it to r.
func measure(ctx context.Context, server *apiserver.Server, c *cluster, who contender, p plan, r *result) (err error) {
	t := &trial{cluster: c, contender: who, result: r}
	for _, to := range []**host.Host{&t.Host, &t.bare} {
		dir, err := os.MkdirTemp("", "signpost-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if *to, err = host.New(dir, hostName, server, "client", "a", "b"); err != nil {
			return err
		}
		defer func(h *host.Host) { err = errors.Join(err, h.Stop()) }(*to)
		if err := equip(*to); err != nil {
			return err
		}
	}
	if err := t.start(ctx); err != nil || r.late {
		return err
	}
	if p.soak > 0 {
		return t.soak(ctx, p.soak)
	}
	if p.fresh > 0 {
		return t.fresh(ctx, p.fresh)
	}
	for i, rate := range p.rates {
		if err := t.update(ctx, &r.updates[i], rate, p.length); err != nil {
			return fmt.Errorf("changes at %v per second: %w", rate, err)
		}
	}
	return t.look(ctx)
}

func (t *trial) client() func(func() error) error { return t.Pod("client").Do }

// start starts the contender and waits until all Services answer.
func (t *trial) start(ctx context.Context) error {
	begin := time.Now()
	if err := t.contender.start(ctx, t.Host); err != nil {
		return err
	}
	n := len(t.cluster.services)
	err := t.client()(func() error {
		for i := range sampled {
			to := t.cluster.services[i*(n-1)/(sampled-1)].addr
			for {
				if _, _, err := connect(to, true); err == nil {
					break
				} else if time.Since(begin) > startLimit {
					t.result.late = true
					return nil
				} else if _, err := usage.Of(t.PID()); err != nil {
					return fmt.Errorf("%w; its log:\n%s", err, t.Log())
				}
				time.Sleep(askedEach)
			}
		}
		return ctx.Err()
	})
	t.result.start = max(t.result.start, time.Since(begin))
	if err != nil || t.result.late {
		return err
	}
	u, err := t.settle(ctx)
	t.result.startup = max(t.result.startup, u.CPU)
	return err
}

// settle waits until the program has nothing to do, and returns what it has used.
func (t *trial) settle(ctx context.Context) (usage.Usage, error) {
	last, err := usage.Of(t.PID())
	for err == nil && ctx.Err() == nil {
		time.Sleep(quiet)
		var now usage.Usage
		if now, err = usage.Of(t.PID()); err == nil && now.CPU-last.CPU < quiet/20 && !usage.Children(t.PID()) {
			return now, nil
		}
		last = now
	}
	return last, errors.Join(err, ctx.Err())
}

// update swaps endpoints of the first Services, one after the other for so long, while others change at
// the rate.
func (t *trial) update(ctx context.Context, out *updates, rate float64, length time.Duration) error {
	before, err := t.settle(ctx)
	if err != nil {
		return err
	}
	others, stop := context.WithTimeout(ctx, length)
	defer stop()
	var changes atomic.Int64
	changed := make(chan error, 1)
	go func() { changed <- t.change(others, rate, &changes) }()
	for i := 0; others.Err() == nil; i++ {
		if err := t.swap(ctx, i%single, out); err != nil {
			return errors.Join(err, ctx.Err())
		}
		changes.Add(1)
		// At another time of whatever the contender does periodically.
		time.Sleep(time.Duration(100+37*(i%10)) * time.Millisecond)
	}
	if err := <-changed; err != nil {
		return err
	}
	after, err := t.settle(ctx)
	out.rate = rate
	out.cpu += after.CPU - before.CPU
	out.changes += int(changes.Load())
	return err
}

// change changes other Services at a rate until ctx ends.
func (t *trial) change(ctx context.Context, rate float64, n *atomic.Int64) error {
	if rate == 0 {
		return nil
	}
	for next := time.Now(); ; next = next.Add(time.Duration(float64(time.Second) / rate)) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(next)):
		}
		// One that has begun is finished, or it would not be known whether it is done.
		if err := t.cluster.change(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		n.Add(1)
	}
}

// swap moves the endpoint of a Service, and watches where connections to it go.
func (t *trial) swap(ctx context.Context, i int, out *updates) error {
	written := make(chan error, 1)
	var want atomic.Uint32
	begin := time.Now()
	go func() {
		to, err := t.cluster.swap(ctx, i)
		want.Store(uint32(to))
		written <- err
	}()
	to := t.cluster.services[i].addr
	var first, last time.Duration
	err := t.client()(func() error {
		was, err := t.ask(to, out)
		if err != nil {
			return err
		}
		// When a row of connections has reached the new one there is no old one any more.
		for row := 0; row < 20 && ctx.Err() == nil; {
			at := time.Since(begin)
			who, err := t.ask(to, out)
			switch {
			case err != nil:
				return err
			case at > swapLimit:
				out.late++
				return nil
			case who == was:
				last, row = at, 0
			default:
				if row++; first == 0 {
					first = at
				}
			}
			time.Sleep(askedEach)
		}
		return nil
	})
	if err := errors.Join(err, <-written); err != nil {
		return err
	}
	if first != 0 {
		out.first, out.last = append(out.first, first), append(out.last, last)
	}
	return nil
}

// ask connects until somebody answers, and returns who.
func (t *trial) ask(to netip.AddrPort, out *updates) (who byte, err error) {
	for begin := time.Now(); time.Since(begin) < swapLimit; {
		if who, _, err = connect(to, true); err == nil {
			return who, nil
		}
		out.failed++
	}
	return 0, err
}

// look notes what can be seen at rest: memory, rules, and what connections cost.
func (t *trial) look(ctx context.Context) error {
	u, err := usage.Of(t.PID())
	if err != nil {
		return err
	}
	t.result.memory = u
	text, err := t.Node.Command(ctx, "", t.contender.list[0], t.contender.list[1:]...)
	if err != nil {
		return err
	}
	t.result.rules = 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, t.contender.count) {
			t.result.rules++
		}
	}
	found, err := costs(connections, t.places(text))
	if t.result.costs == nil {
		t.result.costs = map[string][]time.Duration{}
	}
	for name, took := range found {
		t.result.costs[name] = append(t.result.costs[name], took...)
	}
	return err
}

// places are the Services that come first, in the middle and last in a listing of
// rules, an endpoint beside all Services, and one where there are no rules.
func (t *trial) places(listing string) []place {
	var order []netip.AddrPort
	at := map[netip.Addr]netip.AddrPort{}
	for _, s := range t.cluster.services {
		at[s.addr.Addr()] = s.addr
	}
	for line := range strings.Lines(listing) {
		_, rest, _ := strings.Cut(line, " -d ")
		text, _, _ := strings.Cut(rest, "/32")
		a, err := netip.ParseAddr(text)
		if s, ok := at[a]; err == nil && ok {
			order = append(order, s)
			delete(at, a)
		}
	}
	if len(order) == 0 { // a map, in which none is before another
		for _, s := range t.cluster.services {
			order = append(order, s.addr)
		}
	}
	client, beside := t.Pod("client"), netip.AddrPortFrom(anyA.Addr().Next(), endpointPort)
	return []place{
		{"bare", t.bare.Pod("client"), beside}, {"beside", client, beside},
		{"first", client, order[0]}, {"middle", client, order[len(order)/2]}, {"last", client, order[len(order)-1]},
	}
}
