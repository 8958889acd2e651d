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
	// leftSets are IP sets of an earlier run, of which some may still be used.
	leftSets []string
	// begun is false until the rules of all Services are in for the first time:
	// until then base holds those of an earlier run.
	begun bool
	// check says when to look for what others did; unseeing: they cannot be seen.
	check    check
	unseeing bool
	// mending: what others damaged is being mended.
	mending bool
	odd     map[ruleset.Key]oddity
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
	target := f.target(&snap.Services, start)
	changed := target.Diff(&f.applied)
	if f.begun && len(changed) == 0 && f.renderer.Set() == f.base && slices.Equal(f.renderer.Hooks(), f.hooked) {
		return f.nextTry(), nil
	}
	full := !f.begun
	err := f.commit(ctx, &target)
	if isRefusal(err) && f.begun && f.base != nil {
		// Before a Service is blamed: what it builds on may have been removed.
		if damaged, readErr := f.compare(ctx); readErr == nil && damaged {
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
	f.mended(ctx)
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
	// What of them cannot be rendered may be something else now.
	f.changed = f.applied.Diff(&model.ServiceMap{})
}

func sameNode(a, b model.Node) bool {
	return a.Name == b.Name && a.Zone == b.Zone && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}

// commit makes the kernel hold the rules of services.
func (f *programmer) commit(ctx context.Context, services *model.ServiceMap) error {
	set := f.renderer.Update(services)
	if err := f.know(ctx, set); err != nil {
		return err
	}
	if err := f.unhook(ctx); err != nil {
		return err
	}
	change := ruleset.Diff(f.base, set)
	if !change.Empty() {
		if err := f.tables.CreateIPSets(ctx, change.Create); err != nil {
			return err
		}
		if err := f.tables.Restore(ctx, change.Text()); err != nil {
			f.failed(change, err)
			return err
		}
		f.metrics.wrote(change)
	}
	f.base = set
	if err := f.tables.DestroyIPSets(ctx, append(change.Destroy, f.leftSets...)); err != nil {
		f.log.Warn("IP sets that are not used any more remain", "family", f.family.String(), "error", err)
	}
	f.leftSets = nil
	return f.ensureHooks(ctx)
}

// know reads what the kernel holds, if that is not known.
func (f *programmer) know(ctx context.Context, want *ruleset.Set) error {
	if f.base != nil {
		return nil
	}
	existing, err := f.tables.Existing(ctx, want)
	if err != nil {
		return err
	}
	// A chain can only be deleted if nothing leads to it.
	if err := f.tables.DeleteJumps(ctx, existing.Stale(f.renderer.Hooks())); err != nil {
		return err
	}
	f.base, f.hooked = &existing.Set, existing.Hooked(f.renderer.Hooks())
	f.leftSets = existing.IPSets
	return nil
}

// unhook deletes hooks that are not wanted any more.
func (f *programmer) unhook(ctx context.Context) error {
	var gone []ruleset.Jump
	hooks := f.renderer.Hooks()
	for _, h := range f.hooked {
		if !slices.Contains(hooks, h) {
			gone = append(gone, ruleset.Jump{From: h.Chain, Target: h.Target, Rule: h.Rule()})
		}
	}
	if len(gone) == 0 {
		return nil
	}
	f.hooked = nil
	return f.tables.DeleteJumps(ctx, gone)
}

// failed finds out what the kernel holds after change could not be written.
func (f *programmer) failed(change ruleset.Change, err error) {
	f.metrics.restoreFailures.Inc()
	refused, ok := errors.AsType[*iptables.RefusedError](err)
	switch {
	case ok && refused.Line > 0:
		f.base = change.After(f.base, refused.Line)
	case errors.Is(err, iptables.ErrLocked) && len(change.Parts()) == 1:
		// Nothing was written. With more than one part it may have been the second
		// one that could not be locked.
	default:
		f.base = nil
	}
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
	f.applied, f.begun = *services, true
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
