package iptablestest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// restore reads text line by line. A table is worked on in a copy that takes
// the table's place at its COMMIT.
func (f *Fake) restore(text string, commit bool) error {
	var name ruleset.Table
	var work table
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if f.Refuse != nil {
			if why := f.Refuse(line); why != "" {
				return refused(n, line, why)
			}
		}
		var err error
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '*':
			name = ruleset.Table(line[1:])
			if f.tables[name] == nil {
				err = fmt.Errorf("can't initialize table `%s'", name)
			}
			work = copyOf(f.tables[name])
		case work == nil:
			err = fmt.Errorf("outside of a table")
		case line == "COMMIT":
			err = work.leadsNowhere()
			if err == nil && commit {
				f.tables[name] = work
			}
			work = nil
		default:
			err = f.line(work, line)
		}
		if err != nil {
			return refused(n, line, err.Error())
		}
	}
	if work != nil {
		return refused(n, "", "no COMMIT")
	}
	return nil
}

func copyOf(t table) table {
	out := table{}
	for name, c := range t {
		out[name] = &chain{policy: c.policy, rules: slices.Clone(c.rules)}
	}
	return out
}

// line executes one line within a table.
func (f *Fake) line(t table, line string) error {
	if line[0] == ':' {
		return t.declare(line[1:])
	}
	verb, rest, _ := strings.Cut(line, " ")
	name, spec, _ := strings.Cut(rest, " ")
	c := t[name]
	if c == nil {
		return fmt.Errorf("no chain/target/match by that name: %q", name)
	}
	switch verb {
	case "-A":
		r, err := parseRule(spec)
		if err != nil {
			return err
		}
		for _, set := range r.sets {
			if !f.ipSets[set] {
				return fmt.Errorf("set %s doesn't exist", set)
			}
		}
		c.rules = append(c.rules, r)
	case "-F":
		c.rules = nil
	case "-X":
		switch {
		case c.policy != "":
			return fmt.Errorf("chain %s is built in", name)
		case len(c.rules) > 0:
			return fmt.Errorf("chain %s: directory not empty", name)
		case t.references(name):
			return fmt.Errorf("chain %s: too many links", name)
		}
		delete(t, name)
	default:
		return fmt.Errorf("unknown command %q", verb)
	}
	return nil
}

// declare creates a chain, or empties one that is there and not built in.
func (t table) declare(spec string) error {
	words := strings.Fields(spec)
	if len(words) < 2 {
		return fmt.Errorf("chain without policy")
	}
	name, policy := words[0], words[1]
	if len(name) > ruleset.MaxNameLen {
		return fmt.Errorf("invalid chain name `%s' (%d chars max)", name, ruleset.MaxNameLen)
	}
	c := t[name]
	switch {
	case c != nil && c.policy != "":
		if policy != "-" {
			c.policy = policy
		}
	case policy != "-":
		return fmt.Errorf("can't set policy `%s' on `%s'", policy, name)
	default:
		t[name] = &chain{}
	}
	return nil
}

func (t table) references(name string) bool {
	for _, c := range t {
		if slices.ContainsFunc(c.rules, func(r *rule) bool { return r.target == name }) {
			return true
		}
	}
	return false
}

// leadsNowhere finds rules that lead to chains that do not exist, and chains that lead back to themselves.
func (t table) leadsNowhere() error {
	for _, name := range slices.Sorted(maps.Keys(t)) {
		for _, r := range t[name].rules {
			if t[r.target] == nil && !r.terminal() {
				return fmt.Errorf("couldn't load target `%s' in chain %s", r.target, name)
			}
		}
	}
	done := map[string]bool{}
	for name, c := range t {
		if c.policy == "" {
			continue // a loop that no packet can enter is none to the kernel
		}
		if err := t.loops(name, map[string]bool{}, done); err != nil {
			return err
		}
	}
	return nil
}

func (t table) loops(name string, above, done map[string]bool) error {
	if above[name] {
		return fmt.Errorf("chain %s leads back to itself", name)
	}
	if done[name] || t[name] == nil {
		return nil
	}
	above[name] = true
	for _, r := range t[name].rules {
		if err := t.loops(r.target, above, done); err != nil {
			return err
		}
	}
	delete(above, name)
	done[name] = true
	return nil
}
