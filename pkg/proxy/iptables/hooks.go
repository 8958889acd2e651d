package iptables

import (
	"context"
	"fmt"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// EnsureHooks inserts those of hooks that are missing, each at the front of its
// chain, and returns how many those were. The chains that they lead to must
// exist.
func (t *Tables) EnsureHooks(_ context.Context, hooks []ruleset.Hook) (int, error) {
	inserted := 0
	for _, h := range hooks {
		args, err := ruleset.Fields(string(h.Rule()))
		if err != nil {
			return inserted, fmt.Errorf("hook in %s %s: %w", h.Chain.Table, h.Chain.Name, err)
		}
		there, err := t.rules.Exists(string(h.Chain.Table), h.Chain.Name, args...)
		if err != nil {
			return inserted, fmt.Errorf("looking for the hook in %s %s: %w", h.Chain.Table, h.Chain.Name, err)
		}
		if there {
			continue
		}
		err = t.witness.during(func() (int, error) {
			return 1, t.rules.Insert(string(h.Chain.Table), h.Chain.Name, 1, args...)
		})
		if err != nil {
			return inserted, fmt.Errorf("inserting the hook in %s %s: %w", h.Chain.Table, h.Chain.Name, err)
		}
		inserted++
	}
	return inserted, nil
}

// DeleteJumps deletes rules in other people's chains. It has to come before the deletion of
// a chain that an earlier version of Signpost was entered by.
func (t *Tables) DeleteJumps(_ context.Context, jumps []ruleset.Jump) error {
	for _, j := range jumps {
		args, err := ruleset.Fields(string(j.Rule))
		if err != nil {
			return fmt.Errorf("rule in %s %s: %w", j.From.Table, j.From.Name, err)
		}
		err = t.witness.during(func() (int, error) {
			return 1, t.rules.DeleteIfExists(string(j.From.Table), j.From.Name, args...)
		})
		if err != nil {
			return fmt.Errorf("deleting the jump to %s in %s %s: %w", j.Target, j.From.Table, j.From.Name, err)
		}
	}
	return nil
}
