package proxy

import (
	"context"
	"errors"

	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// programmer keeps the rules of one family.
type programmer struct {
	family  ruleset.Family
	tables  Tables
	log     *slog.Logger
	events  Events
	metrics *familyMetrics

	// cfg and node are what renderer was made for.
	cfg      render.Config
	node     model.Node
	renderer *render.Renderer
	// base is what the kernel holds; nil if that is not known.
	base *ruleset.Set
	// hooked are the hooks that are in place.
	hooked []ruleset.Hook
	// applied are the Services whose rules are in base.
	applied    model.ServiceMap
	quarantine map[model.Name]*inmate
	// changed are the Services whose rules were written since the last report.
	changed []model.Name
	// reported is what was said of the problems of each Service.
	reported map[model.Name]string
}

// sync writes what snap wants. It returns when to try again what is in
// quarantine, or zero. After an error the whole is to be tried again; what was
// written until then is known as far as it can be.
func (f *programmer) sync(ctx context.Context, snap *model.Snapshot, listeners []netip.AddrPort) (time.Time, error) {
	start := time.Now()
	f.follow(snap, listeners)
	full := f.base == nil
	target := f.target(&snap.Services, start)
	changed := target.Diff(&f.applied)
	if !full && len(changed) == 0 && f.renderer.Set() == f.base && slices.Equal(f.renderer.Hooks(), f.hooked) {
		return f.nextTry(), nil
	}
	err := f.commit(ctx, &target)
	if isRefusal(err) && f.base != nil {
		// Before a Service is blamed: what it builds on may have been removed.
		if f.audit(ctx); f.base == nil {
			err = f.commit(ctx, &target)
		}
	}
	if isRefusal(err) {
		f.metrics.refused(full)
		err = f.isolate(ctx, &target, changed, start)
	} else if err == nil {
		f.accept(&target, changed)
	}
	if err != nil {
		return time.Time{}, err
	}
	f.metrics.synced(f.base, full, time.Since(start))
	return f.nextTry(), nil
}

// follow makes another renderer if what it was made for has changed.
func (f *programmer) follow(snap *model.Snapshot, listeners []netip.AddrPort) {
	cfg := f.cfg
	cfg.LocalListeners, cfg.ServiceCIDRs = listeners, snap.ServiceCIDRs
	if f.renderer != nil && sameNode(f.node, snap.Node) && slices.Equal(f.cfg.LocalListeners, listeners) &&
		slices.Equal(f.cfg.ServiceCIDRs, snap.ServiceCIDRs) {
		return
	}
	f.cfg, f.node = cfg, snap.Node
	f.renderer = render.New(f.family, cfg, snap.Node)
	f.renderer.Update(&f.applied)
}

func sameNode(a, b model.Node) bool {
	return a.Name == b.Name && a.Zone == b.Zone && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}

// commit makes the kernel hold the rules of services.
func (f *programmer) commit(ctx context.Context, services *model.ServiceMap) error {
	set := f.renderer.Update(services)
	change, err := f.change(ctx, set)
	if err != nil {
		return err
	}
	if !change.Empty() {
		if err := f.tables.CreateIPSets(ctx, change.Create); err != nil {
			return err
		}
		if err := f.tables.Restore(ctx, change.Text()); err != nil {
			f.failed(change, err)
			return err
		}
		f.metrics.wrote(change)
		if err := f.tables.DestroyIPSets(ctx, change.Destroy); err != nil {
			f.log.Warn("IP sets that are not used any more remain", "family", f.family.String(), "error", err)
		}
	}
	f.base = set
	return f.ensureHooks(ctx)
}

// change returns what is to be written so that the kernel holds set.
func (f *programmer) change(ctx context.Context, set *ruleset.Set) (ruleset.Change, error) {
	hooks := f.renderer.Hooks()
	fewer := slices.ContainsFunc(f.hooked, func(h ruleset.Hook) bool { return !slices.Contains(hooks, h) })
	if f.base != nil && !fewer {
		return ruleset.Diff(f.base, set), nil
	}
	existing, err := f.tables.Existing(ctx)
	if err != nil {
		return ruleset.Change{}, err
	}
	// A chain can only be deleted if nothing leads to it.
	if err := f.tables.DeleteJumps(ctx, existing.Stale(hooks)); err != nil {
		return ruleset.Change{}, err
	}
	f.hooked = nil
	if f.base != nil {
		return ruleset.Diff(f.base, set), nil
	}
	return ruleset.Replace(set, existing.Chains, existing.IPSets...), nil
}

// failed finds out what the kernel holds after the restore of a change from base has
// failed.
func (f *programmer) failed(change ruleset.Change, err error) {
	f.metrics.restoreFailures.Inc()
	refused, ok := errors.AsType[*iptables.RefusedError](err)
	switch {
	case f.base == nil:
	case ok && refused.Line > 0:
		f.base = change.After(f.base, refused.Line)
	case errors.Is(err, iptables.ErrLocked) && oneTable(change):
		// Nothing was written. With more than one table it may have been the second
		// one that could not be locked.
	default:
		f.base = nil
	}
}

func oneTable(c ruleset.Change) bool {
	tables := map[ruleset.Table]bool{}
	for _, chain := range c.Write {
		tables[chain.Table] = true
	}
	for _, k := range c.Delete {
		tables[k.Table] = true
	}
	return len(tables) == 1
}

// ensureHooks comes after the chains are complete, so that no packet enters a
// chain that is not.
func (f *programmer) ensureHooks(ctx context.Context) error {
	hooks := f.renderer.Hooks()
	if slices.Equal(hooks, f.hooked) {
		return nil
	}
	n, err := f.tables.EnsureHooks(ctx, hooks)
	if err != nil {
		return err
	}
	f.hooked = hooks
	if n > 0 {
		f.log.Info("inserted hooks", "family", f.family.String(), "hooks", n)
	}
	return nil
}

// accept notes that the rules of services are in. names are those that were
// tried and differ from before.
func (f *programmer) accept(services *model.ServiceMap, names []model.Name) {
	f.applied = *services
	for _, n := range names {
		if in := f.quarantine[n]; in != nil && in.svc == services.Get(n) {
			f.release(n)
		}
	}
	f.changed = append(f.changed, names...)
}

// report tells the owners of changed Services what of them could not be
// rendered, and says the same thing only once.
func (f *programmer) report() {
	for _, n := range f.changed {
		svc := f.applied.Get(n)
		var said []string
		for _, problem := range f.renderer.Problems(n) {
			said = append(said, problem.String())
		}
		text := strings.Join(said, "; ")
		if svc == nil || text == "" {
			delete(f.reported, n)
			continue
		}
		if f.reported[n] != text {
			f.reported[n] = text
			f.log.Warn("a part of a Service cannot be programmed", "family", f.family.String(), "service", n.String(), "problems", text)
			f.events.ServiceWarning(svc, ReasonNotProgrammed, text)
		}
	}
	f.changed = nil
}

// audit forgets what is in the kernel if somebody has damaged it.
func (f *programmer) audit(ctx context.Context) {
	if f.base == nil {
		return // will be written anyway
	}
	damage, err := f.tables.Damage(ctx, f.base, f.hooked)
	if err != nil && ctx.Err() == nil {
		f.log.Warn("cannot look whether the rules are as they should be", "family", f.family.String(), "error", err)
	}
	if damage == "" {
		return
	}
	f.log.Warn("somebody has damaged the rules, writing them anew", "family", f.family.String(), "damage", damage)
	f.metrics.repairs.Inc()
	f.base = nil
}
