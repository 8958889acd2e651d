package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Snapshots is where Services come from. Its methods must be safe for
// concurrent use.
type Snapshots interface {
	// Snapshot returns the latest snapshot; nil until the caches are complete.
	Snapshot() *model.Snapshot
	// Subscribe returns a channel with room for one signal, a new one per call,
	// that is signalled after each publication.
	Subscribe() <-chan struct{}
}

// Events tells the owner of a Service what is wrong with it.
type Events interface {
	// ServiceWarning must not block. svc is never nil.
	ServiceWarning(svc *model.Service, reason, message string)
}

// The reasons of events.
const (
	// ReasonRefused: the kernel or the iptables program refused the rules of this
	// Service; it goes on with those that it had, if any.
	ReasonRefused = "ServiceRulesRefused"
	// ReasonNotProgrammed: a part of this Service cannot be made into rules.
	ReasonNotProgrammed = "ServiceNotProgrammed"
)

// Tables are the iptables of one family: *iptables.Tables, or a fake. They are
// called from the goroutine of Run only.
type Tables interface {
	Family() ruleset.Family
	// Kernel says what can be done, what cannot and what that costs.
	Kernel(ctx context.Context) (render.Kernel, []string, error)
	// Restore applies text as iptables-restore --noflush does. A refusal is a
	// *iptables.RefusedError, a lock that somebody holds is iptables.ErrLocked.
	Restore(ctx context.Context, text string) error
	// CreateIPSets creates those sets that do not exist; what the kernel does not take is a
	// *iptables.RefusedError. DestroyIPSets destroys those that no rule uses.
	CreateIPSets(ctx context.Context, names []string) error
	DestroyIPSets(ctx context.Context, names []string) error
	// Check returns the error that Restore would, as far as can be known.
	Check(ctx context.Context, text string) error
	// Existing returns Signpost's own chains, and what leads to them, as they are.
	Existing(ctx context.Context) (*ruleset.Existing, error)
	// Untouched reports whether surely nobody else has written since Existing. It
	// is asked all the time. The error says that it cannot be known.
	Untouched(ctx context.Context) (bool, error)
	// EnsureHooks inserts missing hooks and returns their number.
	EnsureHooks(ctx context.Context, hooks []ruleset.Hook) (int, error)
	// DeleteJumps deletes rules in other people's chains.
	DeleteJumps(ctx context.Context, jumps []ruleset.Jump) error
}

// Flows cuts tracked connections that lead to what is no more: a
// *conntrack.Reconciler, or a fake.
type Flows interface {
	// Programmed is called after each pass whose rules are in: those of services, which are
	// those of snap but for what is in quarantine. It must not block.
	Programmed(family ruleset.Family, snap *model.Snapshot, services *model.ServiceMap)
	// Run works until ctx ends.
	Run(ctx context.Context) error
}

// Config is the proxy's part of the configuration.
type Config struct {
	// Backend is "auto", "nft" or "legacy".
	Backend string
	// The following have the meaning that they have in render.Config.
	ClusterCIDRs       []netip.Prefix
	DetectLocal        string
	DetectInterface    string
	MasqueradeAll      bool
	MasqueradeBit      uint8
	NodePortAddresses  []netip.Prefix
	NodePortPrimary    bool
	LocalhostNodePorts bool
	// SyncPeriod is how often rules are compared with what they should be without a
	// sign that others have written to them. Neither changes nor such signs wait for it.
	SyncPeriod time.Duration
}

// Options are what a Proxy is made of. All are needed unless said otherwise.
type Options struct {
	Config    Config
	Snapshots Snapshots
	// LocalListeners returns at which addresses of a snapshot's Services a process
	// of this node may listen, see render.Config; nil for none. It must be pure.
	LocalListeners func(*model.Snapshot) []netip.AddrPort
	Events         Events
	Log            *slog.Logger
	Registerer     prometheus.Registerer
	// Tables to write to, one per family; nil for those of this node.
	Tables []Tables
	// Flows is told what was written; nil for this node's or, with Tables, for none.
	Flows Flows
}

// Proxy writes rules.
//
// # Goals
//
//  1. The first change after a quiet time is written at once. Those that come
//     while a write runs go into the next. Between writes there is a pause of half
//     the time that the last one took, so that no more than two thirds of a core is used
//     however fast Services change.
//  2. Each write contains the difference to what the kernel is known to hold, and is
//     atomic per table; nothing reads rules back on the way. Where that is not known,
//     at the start or because a program was killed, the rules are read once: so
//     there is one path, a restart writes what has changed meanwhile, and
//     damage is mended where it is.
//  3. No Service can stop the others. If a write is refused, the change is split
//     until the Services are found without which it is not; those go on with
//     the rules that they had, if this process wrote any, are named in the log and in an event, and are
//     tried again when they change, and at growing intervals.
//  4. Nothing is written before the caches are complete, as half a cluster's
//     Services would delete the rules of the other half that an earlier run left.
//
// Goals 2 and 3 pull in opposite directions at the start: a part of the Services
// cannot be tried without removing the others that an earlier run has left. There the splitting only checks (iptables-restore --test) and writes once.
//
// The families are independent of each other: each has its own tables, renderer
// and quarantine. All work happens in the goroutine of Run, as processes belong
// to the network namespace of its thread; but for that on tracked connections, which nobody
// has to wait for.
type Proxy struct {
	opts       Options
	log        *slog.Logger
	metrics    *metrics
	families   []*programmer
	flows      Flows
	programmed atomic.Uint64
	progress   chan struct{}
	// waiting is when the first pass began since which none has succeeded, in
	// nanoseconds; 0 if there was none.
	waiting atomic.Int64
	// settled is called after a complete write until it succeeds; nil for nothing.
	settled func(ctx context.Context) error
	// routeLocalnet is called after the first complete write; nil for nothing.
	routeLocalnet func() error
}

// New returns a Proxy that does nothing until Run. The error names the option that is
// wrong.
func New(opts Options) (*Proxy, error) {
	switch {
	case opts.Snapshots == nil || opts.Events == nil || opts.Log == nil || opts.Registerer == nil:
		return nil, errors.New("proxy: Snapshots, Events, Log and Registerer are needed")
	case opts.Config.SyncPeriod <= 0:
		return nil, fmt.Errorf("proxy: syncPeriod %s is not positive", opts.Config.SyncPeriod)
	case opts.Config.MasqueradeBit > 31:
		return nil, fmt.Errorf("proxy: masqueradeBit %d is not between 0 and 31", opts.Config.MasqueradeBit)
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	return &Proxy{opts: opts, log: opts.Log, metrics: m, progress: make(chan struct{}, 1)}, nil
}

// Programmed returns the generation of the last snapshot whose rules are in, in
// all families; 0 before the first. Services that are in quarantine do not
// hold it up. Safe for concurrent use.
func (p *Proxy) Programmed() uint64 { return p.programmed.Load() }

// Progress returns a channel that holds a signal after each advance of Programmed. It
// is the same for all who call.
func (p *Proxy) Progress() <-chan struct{} { return p.progress }

// Behind returns how long changes have waited for their rules: since the first pass began
// that did not succeed, or that still runs. Safe for concurrent use.
func (p *Proxy) Behind() time.Duration {
	if since := p.waiting.Load(); since != 0 {
		return time.Since(time.Unix(0, since))
	}
	return 0
}

// Run keeps the rules until ctx ends, and returns nil then; the rules stay. It
// returns an error if this node's iptables cannot be used at all. It may be called once.
// Programs are started in the network namespace of the thread that calls.
func (p *Proxy) Run(ctx context.Context) error {
	changed := p.opts.Snapshots.Subscribe()
	if err := p.begin(ctx); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	if ctx.Err() != nil {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.flows.Run(ctx) })
	p.loop(ctx, changed)
	return group.Wait()
}

// loop writes what has changed until ctx ends.
func (p *Proxy) loop(ctx context.Context, changed <-chan struct{}) {
	patrol := time.NewTicker(min(watchPeriod, p.opts.Config.SyncPeriod))
	defer patrol.Stop()
	retry := newRetry()
	for {
		pause := p.pass(ctx, retry)
		if !sleep(ctx, pause) {
			return
		}
		if !p.wait(ctx, changed, retry.timer.C, patrol.C) {
			return
		}
	}
}

// wait returns when there is something to do; false when ctx ends. Meanwhile it looks whether others
// damage the rules.
func (p *Proxy) wait(ctx context.Context, changed <-chan struct{}, retry, patrol <-chan time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-changed:
			return true
		case <-retry:
			return true
		case <-patrol:
			damaged := false
			for _, f := range p.families {
				damaged = f.patrol(ctx, p.opts.Config.SyncPeriod) || damaged
			}
			if damaged {
				return true
			}
		}
	}
}

// pass brings all families up to the latest snapshot, and returns how long to
// pause.
func (p *Proxy) pass(ctx context.Context, retry *retry) time.Duration {
	snap := p.opts.Snapshots.Snapshot()
	if snap == nil {
		return 0
	}
	var listeners []netip.AddrPort
	if p.opts.LocalListeners != nil {
		listeners = p.opts.LocalListeners(snap)
	}
	start := time.Now()
	p.waiting.CompareAndSwap(0, start.UnixNano())
	var next time.Time
	failed := false
	for _, f := range p.families {
		again, err := f.sync(ctx, snap, listeners)
		if err == nil {
			p.flows.Programmed(f.family, snap, &f.applied)
		} else if ctx.Err() == nil {
			failed = true
			p.log.Error("rules not written, will try again", "family", f.family.String(), "error", err)
		}
		next = earlier(next, again)
		f.report()
	}
	if !failed {
		p.openLocalhost()
		p.settle(ctx)
		p.waiting.Store(0)
		p.programmed.Store(snap.Generation)
		select {
		case p.progress <- struct{}{}:
		default:
		}
		p.metrics.programmed.Set(float64(snap.Generation))
	}
	retry.after(failed, next)
	return time.Since(start) / 2
}

// openLocalhost lets the kernel route what the rules that are in by now guard.
func (p *Proxy) openLocalhost() {
	if p.routeLocalnet == nil {
		return
	}
	if err := p.routeLocalnet(); err != nil {
		p.log.Warn("node ports are not served at 127.0.0.1", "error", err)
	}
	p.routeLocalnet = nil
}

// settle removes what an earlier run has left in places that are not used any
// more, now that nothing depends on it.
func (p *Proxy) settle(ctx context.Context) {
	if p.settled == nil {
		return
	}
	if err := p.settled(ctx); err != nil {
		p.log.Warn("rules of the other iptables programs remain, will try again", "error", err)
		return
	}
	p.settled = nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// sleep returns false if ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
