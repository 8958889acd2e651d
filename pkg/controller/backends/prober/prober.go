package prober

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
	"github.com/signpost-dev/signpost/pkg/controller/listen"
)

const (
	// atOnce bounds how many checks are under way, and forOne how many of one Service:
	// one whose backends all hang must not keep others from being checked.
	atOnce = 512
	forOne = 16
	// idle is how long a target is checked after it was last asked about: longer than
	// there is no leader when one has died, so that the next one finds what is known.
	idle = time.Minute
	// spread is how far the first checks of targets that are asked about at once are
	// apart at most.
	spread = 200 * time.Millisecond
)

// Options are what a Prober is made of.
type Options struct {
	// Shared is the cache of the process's lifetime: Services and EndpointSlices. It
	// is started by the caller, before or after Run.
	Shared     cache.Cache
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Prober checks backends. Finding may be called from anywhere and at any time,
// also while it does not run: then nothing is known.
type Prober struct {
	options Options
	metrics *metrics
	// slots has an element for each check under way.
	slots chan struct{}
	// do does one check.
	do func(context.Context, *check.Target) verdict.Finding
	// wake holds one element if there are targets to begin with.
	wake chan struct{}

	mu       sync.Mutex
	declared map[serviceKey]*declared
	targets  map[check.Key]*target
	begin    []*target
}

// target is a backend that may be asked about. Prober.mu guards it, but for what
// never changes.
type target struct {
	check.Target
	// slots are those of its Service.
	slots chan struct{}
	// gone: it is not declared any more. running: something checks it.
	gone, running bool
	asked, noted  time.Time
	streak        verdict.Streak
}

// New returns a Prober for one Run.
func New(o Options) (*Prober, error) {
	if o.Shared == nil || o.Registerer == nil || o.Log == nil {
		return nil, errors.New("prober: Shared, Registerer and Log are needed")
	}
	p := &Prober{
		options: o, slots: make(chan struct{}, atOnce), wake: make(chan struct{}, 1),
		declared: map[serviceKey]*declared{}, targets: map[check.Key]*target{},
	}
	m, err := newMetrics(o.Registerer, p.count)
	if err != nil {
		return nil, fmt.Errorf("prober: register metrics: %w", err)
	}
	p.metrics, p.do = m, p.check
	return p, nil
}

// Run checks what is asked about until ctx is done, and returns nil then. It must
// be called once.
func (p *Prober) Run(ctx context.Context) error {
	var ears listen.Ears
	defer func() {
		if err := ears.Remove(); err != nil {
			p.options.Log.Error("cannot remove a handler", "error", err)
		}
	}()
	if err := ears.Add(ctx, p.options.Log, p.sources()...); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("prober: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case <-ctx.Done():
			return group.Wait()
		case <-p.wake:
		}
		for _, t := range p.take() {
			group.Go(func() error {
				p.watch(ctx, t)
				return nil
			})
		}
	}
}

// take returns the targets to begin with.
func (p *Prober) take() []*target {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.begin
	p.begin = nil
	return out
}

// Finding returns what this node finds of a backend, and has it checked from now
// on. It does not block. Of what it does not know, or cannot check in time, nothing
// is found.
func (p *Prober) Finding(k check.Key) verdict.Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[k]
	if t == nil {
		return verdict.Finding{}
	}
	now := time.Now()
	t.asked = now
	if !t.running {
		t.running = true
		p.begin = append(p.begin, t)
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	if now.Sub(t.noted) > stale(&t.Check) {
		return verdict.Finding{}
	}
	return t.streak.Finding()
}

// stale is how old a finding may be: so many checks must not have come about.
func stale(c *check.Check) time.Duration { return 3 * (c.Interval + c.Timeout) }

// watch checks a target as long as it is wanted.
func (p *Prober) watch(ctx context.Context, t *target) {
	for wait := rand.N(spread); p.wait(ctx, wait) && p.isWanted(t); wait = jittered(t.Check.Interval) {
		result := p.inTurn(ctx, t)
		if ctx.Err() != nil {
			return // what it says is that it was stopped
		}
		p.note(t, result)
	}
}

// inTurn does a check as soon as there are not too many others.
func (p *Prober) inTurn(ctx context.Context, t *target) verdict.Finding {
	for _, slots := range []chan struct{}{t.slots, p.slots} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return verdict.Finding{}
		}
	}
	return p.do(ctx, &t.Target)
}

// jittered keeps nodes, and the targets of one, from going in step.
func jittered(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5) }

func (p *Prober) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// isWanted says whether to go on. If not, what was found is forgotten.
func (p *Prober) isWanted(t *target) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.gone && time.Since(t.asked) < idle {
		return true
	}
	t.running, t.streak, t.noted = false, verdict.Streak{}, time.Time{}
	return false
}

// note takes in a check. One that could not be done here says nothing.
func (p *Prober) note(t *target, result verdict.Finding) {
	if result.State == verdict.Unknown {
		return
	}
	p.mu.Lock()
	was := t.streak.Finding()
	t.streak.Note(result, t.Check.Failures, t.Check.Successes)
	t.noted = time.Now()
	is := t.streak.Finding()
	p.mu.Unlock()
	if is.State != was.State {
		p.options.Log.Info("backend as seen from this node", "backend", t.At, "check", t.Check.Kind, "state", is.State, "because", is.Because())
	}
}

// count returns how many backends this node checks, by what it finds.
func (p *Prober) count() map[verdict.State]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[verdict.State]int{}
	for _, t := range p.targets {
		if t.running {
			out[t.streak.Finding().State]++
		}
	}
	return out
}
