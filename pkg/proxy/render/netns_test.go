//go:build netns

package render_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
	"github.com/signpost-dev/signpost/test/netlab"
)

// TestProgramsTakeGoldens feeds the golden files to iptables-restore: first as a
// test, and then really, as only the kernel can say no to some things.
func TestProgramsTakeGoldens(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		for _, g := range goldens() {
			t.Run(backend+" "+g.name, func(t *testing.T) {
				text, err := os.ReadFile(filepath.Join("testdata", g.name+".rules"))
				if err != nil {
					t.Fatal(err)
				}
				lab, err := netlab.New()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = lab.Close() }()
				program := "iptables-" + backend + "-restore"
				if g.family == ruleset.IPv6 {
					program = "ip6tables-" + backend + "-restore"
				}
				for _, args := range [][]string{{"--noflush", "--test"}, {"--noflush"}} {
					if _, err := lab.Node.Command(t.Context(), string(text), program, args...); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestProgramsTakeEveryStep takes both programs through random changes of odd Services,
// each written as it would be on a node, and counts at the end what the kernel holds.
func TestProgramsTakeEveryStep(t *testing.T) {
	for _, backend := range []iptables.Backend{iptables.NFT, iptables.Legacy} {
		for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			for seed := range uint64(4) {
				t.Run(fmt.Sprint(backend, " ", family, " ", seed), func(t *testing.T) {
					lab, err := netlab.New()
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = lab.Close() }()
					rng := rand.New(rand.NewPCG(seed, 11))
					if err := lab.Node.DoAlone(func() error { return steps(t, rng, backend, family) }); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// steps is TestProgramsTakeEveryStep in the namespace of a node.
func steps(t *testing.T, rng *rand.Rand, backend iptables.Backend, family ruleset.Family) error {
	ctx := t.Context()
	tables, err := iptables.Open(ctx, backend, family, iptables.NewWitness(backend))
	if err != nil {
		return err
	}
	write := func(c ruleset.Change) error {
		if err := tables.CreateIPSets(ctx, c.Create); err != nil {
			return err
		}
		if err := tables.Restore(ctx, c.Text()); err != nil {
			return fmt.Errorf("%w\n%s", err, c.Text())
		}
		return tables.DestroyIPSets(ctx, c.Destroy)
	}
	r := render.New(family, randomConfig(rng), node())
	if err := write(ruleset.Replace(r.Set(), nil)); err != nil {
		return err
	}
	if _, err := tables.EnsureHooks(ctx, r.Hooks()); err != nil {
		return err
	}
	var m model.ServiceMap
	for range 25 {
		m = m.With(randomChanges(rng, &m))
		was := r.Set()
		if err := write(ruleset.Diff(was, r.Update(&m))); err != nil {
			return err
		}
	}
	existing, err := tables.Existing(ctx, new(ruleset.Set))
	if err != nil {
		return err
	}
	sets := map[string]bool{}
	for c := range r.Set().All() {
		for _, s := range c.IPSets {
			sets[s] = true
		}
	}
	if existing.Set.Len() != r.Set().Len() || len(existing.IPSets) != len(sets) {
		t.Errorf("%d chains and %d IP sets, want %d and %d", existing.Set.Len(), len(existing.IPSets), r.Set().Len(), len(sets))
	}
	return nil
}
