package iptablestest

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Fake is the iptables of a node in one family. Its methods have the meaning of
// those of iptables.Tables. Not safe for concurrent use.
type Fake struct {
	// Local are the node's addresses. 127.0.0.0/8 and ::1 are always local.
	Local []netip.Addr
	// Sockets are the addresses that a process of the node listens on.
	Sockets []Socket
	// Refuse, if set, is asked for every line of a restore; what it returns is
	// why the line is refused, "" if it is not. So a test makes a kernel that
	// lacks a match.
	Refuse func(line string) string
	// Fail, if set, is what Restore returns, having done nothing.
	Fail error
	// Restores are the texts of all restores that were asked for, refused ones
	// included.
	Restores []string

	family ruleset.Family
	tables map[ruleset.Table]table
	ipSets map[string]bool
	// clients are the addresses in each IP set or recent list.
	clients map[string]map[netip.Addr]bool
	// touched: somebody else has written since Existing.
	touched bool
}

// Socket is an address that a process listens on.
type Socket struct {
	// Proto is tcp, udp or sctp.
	Proto string
	Addr  netip.AddrPort
}

type table map[string]*chain

type chain struct {
	// policy is ACCEPT or DROP for a built-in chain, and empty for others.
	policy string
	rules  []*rule
}

// New returns the tables as they are on a node where nobody has written to them.
func New(family ruleset.Family) *Fake {
	f := &Fake{family: family, tables: map[ruleset.Table]table{}, ipSets: map[string]bool{}, clients: map[string]map[netip.Addr]bool{}}
	for t, names := range map[ruleset.Table][]string{
		ruleset.Raw:    {"PREROUTING", "OUTPUT"},
		ruleset.NAT:    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
		ruleset.Filter: {"INPUT", "FORWARD", "OUTPUT"},
	} {
		f.tables[t] = table{}
		for _, name := range names {
			f.tables[t][name] = &chain{policy: "ACCEPT"}
		}
	}
	return f
}

// Family returns the address family.
func (f *Fake) Family() ruleset.Family { return f.family }

// Load makes set and hooks the whole of Signpost's rules, whatever was there.
func (f *Fake) Load(set *ruleset.Set, hooks []ruleset.Hook) error {
	ctx := context.Background()
	existing, err := f.Existing(ctx, new(ruleset.Set))
	if err != nil {
		return err
	}
	if err := f.DeleteJumps(ctx, existing.Stale(hooks)); err != nil {
		return err
	}
	if err := f.Write(ctx, ruleset.Replace(set, existing.Set.Keys(), existing.IPSets...)); err != nil {
		return err
	}
	_, err = f.EnsureHooks(ctx, hooks)
	return err
}

// Write applies a change with its IP sets.
func (f *Fake) Write(ctx context.Context, c ruleset.Change) error {
	if err := f.CreateIPSets(ctx, c.Create); err != nil {
		return err
	}
	if err := f.Restore(ctx, c.Text()); err != nil {
		return err
	}
	return f.DestroyIPSets(ctx, c.Destroy)
}

// CreateIPSets creates those sets that do not exist.
func (f *Fake) CreateIPSets(_ context.Context, names []string) error {
	for _, n := range names {
		f.ipSets[n] = true
	}
	return nil
}

// DestroyIPSets destroys those sets that no rule uses.
func (f *Fake) DestroyIPSets(_ context.Context, names []string) error {
	for _, n := range names {
		if !f.uses(n) {
			delete(f.ipSets, n)
			delete(f.clients, n)
		}
	}
	return nil
}

func (f *Fake) uses(set string) bool {
	for _, t := range f.tables {
		for _, c := range t {
			if slices.ContainsFunc(c.rules, func(r *rule) bool { return slices.Contains(r.sets, set) }) {
				return true
			}
		}
	}
	return false
}

// Kernel returns a kernel that can do everything.
func (f *Fake) Kernel(context.Context) (render.Kernel, []string, error) {
	return render.FullKernel(), nil, nil
}

// Restore executes text as iptables-restore --noflush does. The error is a
// *iptables.RefusedError with the line; tables committed before it stay so.
func (f *Fake) Restore(_ context.Context, text string) error {
	f.Restores = append(f.Restores, text)
	if f.Fail != nil {
		return f.Fail
	}
	return f.restore(text, true)
}

// Check returns the error that Restore would return, and changes nothing.
func (f *Fake) Check(_ context.Context, text string) error {
	if f.Fail != nil {
		return f.Fail
	}
	return f.restore(text, false)
}

// Existing returns the chains that belong to Signpost, those that are as in want in
// its words, and what leads to them.
func (f *Fake) Existing(_ context.Context, want *ruleset.Set) (*ruleset.Existing, error) {
	f.touched = false
	out := &ruleset.Existing{}
	chains := map[ruleset.Key]*ruleset.Chain{}
	for t, names := range f.tables {
		for name, c := range names {
			k := ruleset.Key{Table: t, Name: name}
			if k.Own() {
				chains[k] = &ruleset.Chain{Key: k}
			}
			for _, r := range c.rules {
				if k.Own() {
					chains[k].Rules = append(chains[k].Rules, ruleset.Rule(r.text))
				} else if strings.HasPrefix(r.target, ruleset.Prefix) {
					out.Jumps = append(out.Jumps, ruleset.Jump{From: k, Target: r.target, Rule: ruleset.Rule(r.text)})
				}
			}
		}
	}
	for k, c := range chains {
		if w := want.Get(k); w != nil && c.Same(w) {
			chains[k] = w
		}
	}
	out.Set = *out.Set.With(chains)
	out.IPSets = slices.Sorted(maps.Keys(f.ipSets))
	slices.SortFunc(out.Jumps, func(a, b ruleset.Jump) int { return a.From.Compare(b.From) })
	return out, nil
}

// Untouched reports whether Flush and Meddle were not called since Existing.
func (f *Fake) Untouched(context.Context) (bool, error) { return !f.touched, nil }

// Meddle restores text as somebody else.
func (f *Fake) Meddle(text string) error {
	f.touched = true
	return f.restore(text, true)
}

// EnsureHooks inserts the hooks that are missing at the front of their chains.
func (f *Fake) EnsureHooks(_ context.Context, hooks []ruleset.Hook) (int, error) {
	inserted := 0
	for _, h := range hooks {
		c := f.tables[h.Chain.Table][h.Chain.Name]
		if c == nil || f.tables[h.Chain.Table][h.Target] == nil {
			return inserted, fmt.Errorf("hook %v: no such chain", h)
		}
		if slices.ContainsFunc(c.rules, func(r *rule) bool { return r.text == string(h.Rule()) }) {
			continue
		}
		r, err := parseRule(string(h.Rule()))
		if err != nil {
			return inserted, err
		}
		c.rules = slices.Insert(c.rules, 0, r)
		inserted++
	}
	return inserted, nil
}

// DeleteJumps deletes rules.
func (f *Fake) DeleteJumps(_ context.Context, jumps []ruleset.Jump) error {
	for _, j := range jumps {
		if c := f.tables[j.From.Table][j.From.Name]; c != nil {
			c.rules = slices.DeleteFunc(c.rules, func(r *rule) bool { return r.text == string(j.Rule) })
		}
	}
	return nil
}

// Flush empties all chains of a table and deletes those that are not built in,
// as "iptables -F" and "iptables -X" do.
func (f *Fake) Flush(t ruleset.Table) {
	f.touched = true
	for name, c := range f.tables[t] {
		c.rules = nil
		if c.policy == "" {
			delete(f.tables[t], name)
		}
	}
}

// Dump returns all rules, as text for a restore in a fixed order.
func (f *Fake) Dump() string {
	var b strings.Builder
	for _, t := range ruleset.Tables() {
		chains := f.tables[t]
		names := slices.Sorted(maps.Keys(chains))
		fmt.Fprintf(&b, "*%s\n", t)
		for _, name := range names {
			policy := chains[name].policy
			if policy == "" {
				policy = "-"
			}
			fmt.Fprintf(&b, ":%s %s [0:0]\n", name, policy)
		}
		for _, name := range names {
			for _, r := range chains[name].rules {
				fmt.Fprintf(&b, "-A %s %s\n", name, r.text)
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

func refused(n int, line, message string) error {
	return &iptables.RefusedError{Program: "iptables-restore", Line: n, Text: line, Message: message}
}
