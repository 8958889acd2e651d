package iptables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Cleanup removes every hook and every chain and IP set of Signpost, in all tables, in both
// families and from both backends, as far as the programs are there. It goes on after an
// error and returns all of them.
func Cleanup(ctx context.Context, log *slog.Logger) error {
	var errs []error
	for _, b := range []Backend{NFT, Legacy} {
		errs = append(errs, CleanupBackend(ctx, b, log))
	}
	sets, err := ipSets(0)
	errs = append(errs, err, destroyIPSets(sets))
	return errors.Join(errs...)
}

// CleanupBackend is Cleanup for one backend: the one that a node does not use any more.
func CleanupBackend(ctx context.Context, b Backend, log *slog.Logger) error {
	var errs []error
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		names, err := find(ctx, b, f)
		if err != nil {
			continue // without the program there are no rules of it
		}
		if err := cleanup(ctx, b, f, names, log); err != nil {
			errs = append(errs, fmt.Errorf("cleaning up %s with %s: %w", f, names.restore, err))
		}
	}
	return errors.Join(errs...)
}

func cleanup(ctx context.Context, b Backend, f ruleset.Family, names programs, log *slog.Logger) error {
	// Looked for before opening, so that tables that nobody uses are not created.
	found, err := (&Tables{family: f, names: names, witness: NewWitness(b)}).Existing(ctx, new(ruleset.Set))
	if err != nil || found.Set.Len() == 0 {
		return err
	}
	t, err := Open(ctx, b, f, NewWitness(b))
	if err != nil {
		return err
	}
	if err := t.DeleteJumps(ctx, found.Jumps); err != nil {
		return err
	}
	if err := t.Restore(ctx, ruleset.Diff(&found.Set, &ruleset.Set{}).Text()); err != nil {
		return err
	}
	log.Info("removed all chains", "family", f.String(), "backend", string(b), "chains", found.Set.Len())
	return nil
}
