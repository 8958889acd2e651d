package iptables

import (
	"context"
	"errors"
	"fmt"

	goiptables "github.com/coreos/go-iptables/iptables"

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
		if err := t.rules.Insert(string(h.Chain.Table), h.Chain.Name, 1, args...); err != nil {
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
		if err := t.rules.DeleteIfExists(string(j.From.Table), j.From.Name, args...); err != nil {
			return fmt.Errorf("deleting the jump to %s in %s %s: %w", j.Target, j.From.Table, j.From.Name, err)
		}
	}
	return nil
}

// Damage compares what can be compared cheaply with what should be there: the
// hooks, and the number of rules in each chain that a hook leads to. It returns
// what is wrong, or "" if all is well. A table that somebody has flushed is found this
// way; a single rule that somebody has changed further down is not.
func (t *Tables) Damage(_ context.Context, set *ruleset.Set, hooks []ruleset.Hook) (string, error) {
	for _, h := range hooks {
		args, err := ruleset.Fields(string(h.Rule()))
		if err != nil {
			return "", err
		}
		there, err := t.rules.Exists(string(h.Chain.Table), h.Chain.Name, args...)
		if err != nil {
			return damageOf(fmt.Errorf("looking for the hook in %s %s: %w", h.Chain.Table, h.Chain.Name, err))
		}
		if !there {
			return fmt.Sprintf("table %s: %s does not lead to %s any more", h.Chain.Table, h.Chain.Name, h.Target), nil
		}
	}
	seen := map[ruleset.Key]bool{}
	for _, h := range hooks {
		k := ruleset.Key{Table: h.Chain.Table, Name: h.Target}
		if seen[k] {
			continue
		}
		seen[k] = true
		lines, err := t.rules.List(string(k.Table), k.Name)
		if err != nil {
			return damageOf(fmt.Errorf("listing %s %s: %w", k.Table, k.Name, err))
		}
		want := set.Get(k)
		if got := len(lines) - 1; want != nil && got != len(want.Rules) { // the first line declares the chain
			return fmt.Sprintf("table %s: %s has %d rules instead of %d", k.Table, k.Name, got, len(want.Rules)), nil
		}
	}
	return "", nil
}

// damageOf takes what the program says to be missing, a chain or the target of a
// rule, for damage, and gives all else back: that it could not look, because of a
// lock for example, says nothing.
func damageOf(err error) (string, error) {
	const failed, wrongUse = 1, 2 // its exit codes; 2 is what a rule with a target that is gone is
	if e, ok := errors.AsType[*goiptables.Error](err); ok && (e.ExitStatus() == failed || e.ExitStatus() == wrongUse) {
		return err.Error(), nil
	}
	return "", err
}
