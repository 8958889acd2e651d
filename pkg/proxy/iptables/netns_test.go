//go:build netns

package iptables_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
	"github.com/signpost-dev/signpost/test/netlab"
)

// inside runs f in a namespace without any rules.
func inside(t *testing.T, f func()) {
	t.Helper()
	lab, err := netlab.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lab.Close() }()
	if err := lab.Node.DoAlone(func() error { f(); return nil }); err != nil {
		t.Error(err)
	}
}

// each runs f with the tables of each backend and family. f must not call Fatal, as it
// runs on a thread of its own.
func each(t *testing.T, f func(t *testing.T, tables *iptables.Tables)) {
	t.Helper()
	for _, b := range []iptables.Backend{iptables.NFT, iptables.Legacy} {
		for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			t.Run(fmt.Sprint(b, " ", family), func(t *testing.T) {
				inside(t, func() {
					tables, err := iptables.Open(t.Context(), b, family, iptables.NewWitness(b))
					if err != nil {
						t.Error(err)
						return
					}
					f(t, tables)
				})
			})
		}
	}
}

func TestKernelHasAll(t *testing.T) {
	each(t, func(t *testing.T, tables *iptables.Tables) {
		k, missing, err := tables.Kernel(t.Context())
		if err != nil || len(missing) > 0 || k != render.FullKernel() {
			t.Errorf("got %+v, missing %v, %v", k, missing, err)
		}
		if found, err := tables.Existing(t.Context(), new(ruleset.Set)); err != nil || found.Set.Len() > 0 {
			t.Errorf("looking has left chains %v, %v", found, err)
		}
	})
}

// TestFakeRefusesWhatIsRefused checks the fake against the programs and the kernel: what one of
// them takes, the others take, and both then have the same chains; where one stops, the other stops.
func TestFakeRefusesWhatIsRefused(t *testing.T) {
	inputs := []string{
		"*nat\n:SIGNPOST-A - [0:0]\n:SIGNPOST-B - [0:0]\n-A SIGNPOST-A -j SIGNPOST-B\nCOMMIT\n",
		"*nat\n:SIGNPOST-A - [0:0]\n-A SIGNPOST-A -j SIGNPOST-NONE\nCOMMIT\n",
		"*nat\n-A SIGNPOST-A -j RETURN\nCOMMIT\n",
		"*nat\n-A SIGNPOST-NONE -j RETURN\nCOMMIT\n",
		"*nat\n:SIGNPOST-B - [0:0]\n-X SIGNPOST-B\nCOMMIT\n", // A still leads to it
		"*nat\n:SIGNPOST-A - [0:0]\n:SIGNPOST-B - [0:0]\n-X SIGNPOST-B\nCOMMIT\n",
		"*nat\n-X SIGNPOST-B\nCOMMIT\n",
		"*nat\n:SIGNPOST-A - [0:0]\n:SIGNPOST-B - [0:0]\n-A SIGNPOST-A -j SIGNPOST-B\n-A SIGNPOST-B -j SIGNPOST-A\n-A PREROUTING -j SIGNPOST-A\nCOMMIT\n",
		"*nat\n:SIGNPOST-" + strings.Repeat("A", 20) + " - [0:0]\nCOMMIT\n",
		"*filter\n:SIGNPOST-F - [0:0]\n-A SIGNPOST-F -p tcp -m tcp --dport 80 -j REJECT\nCOMMIT\n*nat\n:SIGNPOST-C - [0:0]\n-A SIGNPOST-C -m nosuchmatch -j RETURN\nCOMMIT\n",
		"*nat\n:SIGNPOST-C - [0:0]\n-A SIGNPOST-C -p tcp -m statistic --mode random --probability 1.5 -j RETURN\nCOMMIT\n",
		"*nat\n:SIGNPOST-C - [0:0]\n-A SIGNPOST-C --dport 80 -j RETURN\nCOMMIT\n",
		"*nat\n:SIGNPOST-C - [0:0]\n-A SIGNPOST-C -m mark --mark 0x1/0x1 -m comment --comment \"a b\" -g SIGNPOST-A\nCOMMIT\n",
		"*nosuch\nCOMMIT\n", "nonsense\n",
	}
	each(t, func(t *testing.T, tables *iptables.Tables) {
		fake := iptablestest.New(tables.Family())
		for _, in := range inputs {
			real, pretended := tables.Restore(t.Context(), in), fake.Restore(t.Context(), in)
			if (real == nil) != (pretended == nil) {
				t.Errorf("%s\nthe program says %v, the fake says %v", in, real, pretended)
			}
			if refused, ok := errors.AsType[*iptables.RefusedError](real); real != nil && (!ok || refused.Line == 0) {
				t.Errorf("%s\ngot %v, want the line", in, real)
			}
			// The fake has the words of what was restored, the kernel others for the same.
			b, _ := fake.Existing(t.Context(), new(ruleset.Set))
			a, err := tables.Existing(t.Context(), &b.Set)
			if err != nil {
				t.Error(err)
				continue
			}
			diff := ruleset.Diff(&a.Set, &b.Set)
			if !diff.Empty() || !slices.Equal(a.Jumps, b.Jumps) {
				t.Errorf("after\n%s\nthe fake has more than the kernel: %v; jumps: the kernel %v, the fake %v", in, diff, a.Jumps, b.Jumps)
			}
		}
	})
}

func TestHooks(t *testing.T) {
	hooks := []ruleset.Hook{
		{Chain: ruleset.Key{Table: ruleset.NAT, Name: "PREROUTING"}, Target: "SIGNPOST-A"},
		{Chain: ruleset.Key{Table: ruleset.Filter, Name: "INPUT"}, Match: "-m conntrack --ctstate NEW", Target: "SIGNPOST-F"},
	}
	set := (&ruleset.Set{}).With(map[ruleset.Key]*ruleset.Chain{
		{Table: ruleset.NAT, Name: "SIGNPOST-A"}:    {Key: ruleset.Key{Table: ruleset.NAT, Name: "SIGNPOST-A"}, Rules: []ruleset.Rule{"-j RETURN"}},
		{Table: ruleset.Filter, Name: "SIGNPOST-F"}: {Key: ruleset.Key{Table: ruleset.Filter, Name: "SIGNPOST-F"}},
	})
	each(t, func(t *testing.T, tables *iptables.Tables) {
		ctx := t.Context()
		if err := tables.Restore(ctx, ruleset.Replace(set, nil).Text()); err != nil {
			t.Error(err)
			return
		}
		for _, want := range []int{2, 0} {
			if n, err := tables.EnsureHooks(ctx, hooks); err != nil || n != want {
				t.Errorf("%d inserted, want %d, %v", n, want, err)
			}
		}
		found, err := tables.Existing(ctx, new(ruleset.Set))
		if err != nil {
			t.Error(err)
			return
		}
		if got := found.Hooked(hooks); !slices.Equal(got, hooks) {
			t.Errorf("in place are %v, want %v", got, hooks)
		}
		if err := tables.DeleteJumps(ctx, found.Stale(hooks[:1])); err != nil {
			t.Error(err)
		}
		if n, err := tables.EnsureHooks(ctx, hooks); err != nil || n != 1 {
			t.Errorf("%d inserted, %v; one was kept", n, err)
		}
	})
}

func TestDetect(t *testing.T) {
	own := "*nat\n:SIGNPOST-A - [0:0]\nCOMMIT\n"
	hint := "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
	other := "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n"
	tests := []struct {
		name, nft, legacy string
		want              iptables.Backend
	}{
		{"nothing", "", "", iptables.NFT},
		{"more legacy rules", "", other, iptables.Legacy},
		{"as many", other, other, iptables.NFT},
		{"hint beats rules", hint, other, iptables.NFT},
		{"hint in legacy", other, hint, iptables.Legacy},
		{"our own beat the hint", hint, own, iptables.Legacy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inside(t, func() {
				for b, text := range map[iptables.Backend]string{iptables.NFT: tt.nft, iptables.Legacy: tt.legacy} {
					tables, err := iptables.Open(t.Context(), b, ruleset.IPv4, iptables.NewWitness(b))
					if err != nil {
						t.Error(err)
						return
					}
					if err := tables.Restore(t.Context(), text); err != nil {
						t.Error(err)
					}
				}
				if got, err := iptables.Detect(t.Context(), "auto"); got != tt.want || err != nil {
					t.Errorf("got %s, %v, want %s", got, err, tt.want)
				}
				for _, want := range []iptables.Backend{iptables.NFT, iptables.Legacy} {
					if got, err := iptables.Detect(t.Context(), string(want)); got != want || err != nil {
						t.Errorf("wanted %s: got %s, %v", want, got, err)
					}
				}
			})
		})
	}
	if _, err := iptables.Detect(t.Context(), "ebtables"); err == nil {
		t.Error("an unknown backend is no error")
	}
}

func TestMissingPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := iptables.Detect(t.Context(), "auto")
	if missing, ok := errors.AsType[*iptables.MissingProgramError](err); !ok || missing.Program == "" {
		t.Errorf("got %v", err)
	}
}

// TestMissingMatch takes away matches by programs that refuse them.
func TestMissingMatch(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nin=$(cat)\nif echo \"$in\" | grep -q \"$REFUSE\"; then echo \"line 3 failed\" >&2; exit 1; fi\necho \"$in\" | /usr/sbin/iptables-nft-restore \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables-nft-restore"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for refuse, want := range map[string]func(*render.Kernel){
		"statistic":    func(k *render.Kernel) { k.Statistic = false },
		"socket":       func(k *render.Kernel) { k.Listeners = false },
		"notrack":      func(k *render.Kernel) { k.Listeners = false },
		"comment":      func(k *render.Kernel) { k.Comment = false },
		"random-fully": func(k *render.Kernel) { k.RandomFully = false },
		"addrtype":     nil,
	} {
		t.Run(refuse, func(t *testing.T) {
			t.Setenv("REFUSE", refuse)
			inside(t, func() {
				tables, err := iptables.Open(t.Context(), iptables.NFT, ruleset.IPv4, iptables.NewWitness(iptables.NFT))
				if err != nil {
					t.Error(err)
					return
				}
				got, missing, err := tables.Kernel(t.Context())
				if want == nil {
					if err == nil || !strings.Contains(err.Error(), refuse) {
						t.Errorf("got %v, want an error that names %s", err, refuse)
					}
					return
				}
				k := render.FullKernel()
				want(&k)
				if err != nil || got != k || len(missing) != 1 || !strings.Contains(missing[0], refuse) && refuse != "notrack" {
					t.Errorf("got %+v, %v, %v", got, missing, err)
				}
			})
		})
	}
}

// TestLocked holds the lock of the legacy tables for longer than anybody waits.
func TestLocked(t *testing.T) {
	inside(t, func() {
		tables, err := iptables.Open(t.Context(), iptables.Legacy, ruleset.IPv4, iptables.NewWitness(iptables.Legacy))
		if err != nil {
			t.Error(err)
			return
		}
		lock, err := os.Create("/run/xtables.lock") // that of this namespace, see DoAlone
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = lock.Close() }()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
			t.Error(err)
		}
		start := time.Now()
		if err := tables.Restore(t.Context(), "*nat\nCOMMIT\n"); !errors.Is(err, iptables.ErrLocked) {
			t.Errorf("after %v: got %v", time.Since(start), err)
		}
	})
}

// TestCleanup removes what both backends have in both families, and nothing else.
func TestCleanup(t *testing.T) {
	const text = "*nat\n:SIGNPOST-A - [0:0]\n:SIGNPOST-B - [0:0]\n:OTHER - [0:0]\n-A SIGNPOST-A -j SIGNPOST-B\n" +
		"-A PREROUTING -m comment --comment \"by \\\"hand\\\"\" -j SIGNPOST-A\n-A PREROUTING -j OTHER\n-A OTHER -g SIGNPOST-B\nCOMMIT\n"
	inside(t, func() {
		var all []*iptables.Tables
		for _, b := range []iptables.Backend{iptables.NFT, iptables.Legacy} {
			for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
				tables, err := iptables.Open(t.Context(), b, family, iptables.NewWitness(b))
				if err != nil {
					t.Error(err)
					return
				}
				if err := tables.Restore(t.Context(), text); err != nil {
					t.Error(err)
				}
				all = append(all, tables)
			}
		}
		for range 2 { // the second time there is nothing to do
			if err := iptables.Cleanup(t.Context(), slog.New(slog.DiscardHandler)); err != nil {
				t.Error(err)
			}
		}
		for _, tables := range all {
			found, err := tables.Existing(t.Context(), new(ruleset.Set))
			if err != nil {
				t.Error(err)
				continue
			}
			if found.Set.Len()+len(found.Jumps) > 0 {
				t.Errorf("%s %s: %v remain, %v", tables.Backend(), tables.Family(), found, err)
			}
			// The rule of somebody else is still there.
			if err := tables.Restore(t.Context(), "*nat\n-D PREROUTING -j OTHER\nCOMMIT\n"); err != nil {
				t.Errorf("%s %s: %v", tables.Backend(), tables.Family(), err)
			}
		}
	})
}

// TestPlainNames runs on a machine that has programs of one backend only, under
// their plain names.
func TestPlainNames(t *testing.T) {
	multi, err := exec.LookPath("xtables-legacy-multi")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore"} {
		if err := os.Symlink(multi, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	inside(t, func() {
		if b, err := iptables.Detect(t.Context(), "auto"); b != iptables.Legacy || err != nil {
			t.Errorf("got %s, %v, want legacy", b, err)
		}
		if _, err := iptables.Detect(t.Context(), "nft"); err == nil {
			t.Error("the programs of the other backend are found")
		}
		tables, err := iptables.Open(t.Context(), iptables.Legacy, ruleset.IPv4, iptables.NewWitness(iptables.Legacy))
		if err != nil {
			t.Error(err)
			return
		}
		if err := tables.Restore(t.Context(), "*nat\n:SIGNPOST-A - [0:0]\nCOMMIT\n"); err != nil {
			t.Error(err)
		}
	})
}
