//go:build netns

package iptables_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// TestListedAsWritten writes all that is rendered in pkg/proxy/render's tests with
// the real programs, and checks that what they list is known for the same. So
// a restart writes nothing, and damage is only what is damaged.
func TestListedAsWritten(t *testing.T) {
	files, err := filepath.Glob("../render/testdata/*.rules")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	each(t, func(t *testing.T, tables *iptables.Tables) {
		for _, file := range files {
			if ipv6 := strings.Contains(file, "ipv6"); ipv6 != (tables.Family() == ruleset.IPv6) {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
				return
			}
			fake := iptablestest.New(tables.Family())
			if err := fake.Restore(t.Context(), string(text)); err != nil {
				t.Error(file, err)
				continue
			}
			written, _ := fake.Existing(t.Context(), new(ruleset.Set))
			before, err := tables.Existing(t.Context(), new(ruleset.Set))
			if err != nil {
				t.Error(err)
				return
			}
			if err := tables.Restore(t.Context(), ruleset.Diff(&before.Set, &written.Set).Text()); err != nil {
				t.Error(file, err)
				continue
			}
			listed, err := tables.Existing(t.Context(), &written.Set)
			if err != nil {
				t.Error(err)
				return
			}
			change := ruleset.Diff(&listed.Set, &written.Set)
			for _, c := range change.Write {
				var was any = "nothing"
				if l := listed.Set.Get(c.Key); l != nil {
					was = l.Rules
				}
				t.Errorf("%s: %v is written\n\t%q\nand listed\n\t%q", filepath.Base(file), c.Key, c.Rules, was)
			}
			if len(change.Delete) > 0 {
				t.Errorf("%s: more is listed: %v", filepath.Base(file), change.Delete)
			}
		}
	})
}

// TestWitness checks that others are seen and one's own writes are not taken for
// theirs.
func TestWitness(t *testing.T) {
	for _, b := range []iptables.Backend{iptables.NFT, iptables.Legacy} {
		t.Run(string(b), func(t *testing.T) {
			inside(t, func() { witnessed(t, b) })
		})
	}
}

func witnessed(t *testing.T, b iptables.Backend) {
	ctx := t.Context()
	witness := iptables.NewWitness(b)
	var families [2]*iptables.Tables
	for i, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		var err error
		if families[i], err = iptables.Open(ctx, b, f, witness); err != nil {
			t.Error(err)
			return
		}
	}
	stranger, err := iptables.Open(ctx, b, ruleset.IPv4, iptables.NewWitness(b))
	if err != nil {
		t.Error(err)
		return
	}
	restore := func(tables *iptables.Tables, text string, ok bool) func() error {
		return func() error {
			if err := tables.Restore(ctx, text); (err == nil) != ok {
				return fmt.Errorf("restore: %w", err)
			}
			return nil
		}
	}
	hook := []ruleset.Hook{{Chain: ruleset.Key{Table: ruleset.NAT, Name: "OUTPUT"}, Target: "SIGNPOST-A"}}
	jump := []ruleset.Jump{{From: hook[0].Chain, Target: hook[0].Target, Rule: hook[0].Rule()}}
	for _, step := range []struct {
		what   string
		do     func() error
		others bool
	}{
		{"nothing", func() error { return nil }, false},
		{"a restore", restore(families[0], "*nat\n:SIGNPOST-A - [0:0]\n-A SIGNPOST-A -j RETURN\nCOMMIT\n*filter\n:SIGNPOST-A - [0:0]\nCOMMIT\n*nat\n:SIGNPOST-B - [0:0]\nCOMMIT\n", true), false},
		{"a refused restore", restore(families[0], "*filter\n:SIGNPOST-C - [0:0]\nCOMMIT\n*nat\n-A SIGNPOST-A -j NOWHERE\nCOMMIT\n", false), false},
		{"the other family", restore(families[1], "*nat\n:SIGNPOST-A - [0:0]\nCOMMIT\n", true), false},
		{"a hook", func() error { _, err := families[0].EnsureHooks(ctx, hook); return err }, false},
		{"the same hook", func() error { _, err := families[0].EnsureHooks(ctx, hook); return err }, false},
		{"a check", func() error { return families[0].Check(ctx, "*nat\n:SIGNPOST-Z - [0:0]\nCOMMIT\n") }, false},
		{"a stranger's rule", restore(stranger, "*nat\n:SIGNPOST-A - [0:0]\nCOMMIT\n", true), true},
		{"no hook", func() error { return families[0].DeleteJumps(ctx, jump) }, false},
		{"a stranger's chain", restore(stranger, "*filter\n:OTHER - [0:0]\nCOMMIT\n", true), true},
	} {
		for _, tables := range families {
			if _, err := tables.Existing(ctx, new(ruleset.Set)); err != nil {
				t.Error(err)
			}
		}
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
		for _, tables := range families {
			if untouched, err := tables.Untouched(ctx); err != nil || untouched == step.others {
				t.Errorf("%s, %s: others have surely not written: %v, %v", step.what, tables.Family(), untouched, err)
			}
		}
	}
}
