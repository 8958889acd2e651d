package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// jump is a rule in somebody else's chain that leads to one of Signpost's.
type jump struct {
	from   ruleset.Key
	target string
	args   []string
}

// DropHooks deletes all rules in other people's chains that lead to Signpost's,
// but those of keep. It has to come before the deletion of a chain that an
// earlier version of Signpost was entered by.
func (t *Tables) DropHooks(ctx context.Context, keep []ruleset.Hook) error {
	jumps, err := t.jumps(ctx)
	if err != nil {
		return err
	}
	for _, j := range jumps {
		if slices.ContainsFunc(keep, func(h ruleset.Hook) bool { return h.Chain == j.from && h.Target == j.target }) {
			continue
		}
		if err := t.rules.DeleteIfExists(string(j.from.Table), j.from.Name, j.args...); err != nil {
			return fmt.Errorf("deleting the hook in %s %s: %w", j.from.Table, j.from.Name, err)
		}
	}
	return nil
}

func (t *Tables) jumps(ctx context.Context) ([]jump, error) {
	var out []jump
	var errs []error
	err := saved(ctx, t.names.save, func(table ruleset.Table, l string) {
		rule, ok := strings.CutPrefix(l, "-A ")
		if !ok || strings.HasPrefix(rule, ruleset.Prefix) || !strings.Contains(rule, ruleset.Prefix) {
			return
		}
		words, err := ruleset.Fields(rule)
		if err != nil {
			errs = append(errs, err)
			return
		}
		i := slices.IndexFunc(words, func(w string) bool { return w == "-j" || w == "-g" })
		if i > 0 && i+1 < len(words) && strings.HasPrefix(words[i+1], ruleset.Prefix) {
			out = append(out, jump{ruleset.Key{Table: table, Name: words[0]}, words[i+1], words[1:]})
		}
	})
	return out, errors.Join(append(errs, err)...)
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
			return "", fmt.Errorf("looking for the hook in %s %s: %w", h.Chain.Table, h.Chain.Name, err)
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
			return "", fmt.Errorf("listing %s %s: %w", k.Table, k.Name, err)
		}
		want := set.Get(k)
		if got := len(lines) - 1; want != nil && got != len(want.Rules) { // the first line declares the chain
			return fmt.Sprintf("table %s: %s has %d rules instead of %d", k.Table, k.Name, got, len(want.Rules)), nil
		}
	}
	return "", nil
}
