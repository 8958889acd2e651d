package render

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

const (
	// inlineTargets is up to how many targets a Service with one front end has
	// its rules where it is found, and not in a chain of its own. Many such chains
	// make the whole expensive, large leaves make changes expensive.
	inlineTargets = 16
	// manyTargets is from how many a choice is made in two steps: of a group, then
	// within it. A connection then meets about twice the root of their number, and a
	// change rewrites one group.
	manyTargets = 64
	// maxAffinity is as long as the API lets a client keep its target. Neither sets nor
	// lists can remember for more than some weeks.
	maxAffinity = 24 * time.Hour
)

// path is one way to choose among targets, for some of the front ends of a Service port.
type path struct {
	facts   *facts
	name    model.ServicePortName
	proto   string
	chain   string // its chain, if it gets one
	targets []model.Target
	// affinity is how long a client stays with its target; 0 for not at all.
	affinity time.Duration
	inline   bool
	used     bool // something leads to its chain
}

func (f *facts) path(kind string, name model.ServicePortName, proto string, targets []model.Target, uses int, affinity time.Duration) *path {
	affinity = min(affinity, maxAffinity)
	if affinity < time.Second || !f.Kernel.IPSets && !f.Kernel.Recent {
		affinity = 0
	}
	return &path{
		facts: f, name: name, proto: proto, targets: targets, affinity: affinity,
		chain:  ruleset.HashedName(kind, name.String()+proto),
		inline: affinity == 0 && (len(targets) == 1 || uses == 1 && len(targets) <= inlineTargets),
	}
}

// to returns rules that take packets that match to one of the targets. match contains the protocol.
func (p *path) to(match, comment string) []ruleset.Rule {
	if p.inline {
		return p.flat(match, comment, p.targets)
	}
	p.used = true
	return []ruleset.Rule{ruleset.Rule(match + comment + " -g " + p.chain)}
}

// chains returns the chains that what to has returned leads to.
func (p *path) chains() []*ruleset.Chain {
	if !p.used {
		return nil
	}
	match, comment := "-p "+p.proto, p.facts.comment(p.name.String())
	root := p.newChain(p.chain)
	if len(p.targets) < manyTargets || !p.facts.Kernel.Statistic {
		p.fill(root, match, comment, p.targets)
		return []*ruleset.Chain{root}
	}
	out := []*ruleset.Chain{root}
	var random []ruleset.Rule
	left := len(p.targets)
	for i, group := range p.groups() {
		if len(group) == 0 {
			continue
		}
		c := p.newChain(ruleset.HashedName("GRP-", p.chain+fmt.Sprint(i)))
		if p.affinity > 0 {
			// A client's group is remembered like its target, or all targets would have to be
			// asked for it.
			root.Rules = append(root.Rules, ruleset.Rule(match+p.knows(c.Name)+comment+" -g "+c.Name))
			c.Rules = []ruleset.Rule{ruleset.Rule(match + p.facts.comment(p.name.String()) + p.note(c.Name))}
			root.IPSets = append(root.IPSets, p.ipSets(c.Name)...)
		}
		p.fill(c, match, p.facts.comment(p.name.String()), group)
		c.IPSets = append(c.IPSets, p.ipSets(c.Name)...)
		random = append(random, ruleset.Rule(match+share(len(group), left)+comment+" -g "+c.Name))
		comment = ""
		left -= len(group)
		out = append(out, c)
	}
	root.Rules = append(root.Rules, random...)
	return out
}

// fill puts into c what takes packets to one of targets.
func (p *path) fill(c *ruleset.Chain, match, comment string, targets []model.Target) {
	known := p.known(match, comment, targets)
	if len(known) > 0 {
		comment = ""
	}
	c.Rules = slices.Concat(c.Rules, known, p.choose(match, comment, targets))
	if p.affinity > 0 {
		for _, t := range targets {
			c.IPSets = append(c.IPSets, p.ipSets(p.clients(t))...)
		}
	}
}

func (p *path) newChain(name string) *ruleset.Chain {
	return &ruleset.Chain{Key: ruleset.Key{Table: ruleset.NAT, Name: name}}
}

// groups spreads the targets over about the root of their number, each by itself,
// so that one that comes or goes leaves the others where they are.
func (p *path) groups() [][]model.Target {
	n := 1 << ((bits.Len(uint(len(p.targets))) + 1) / 2)
	if float64(n) > 1.5*math.Sqrt(float64(len(p.targets))) {
		n /= 2
	}
	out := make([][]model.Target, n)
	for _, t := range p.targets {
		h := fnv.New32a()
		_, _ = h.Write([]byte(t.AddrPort.String()))
		i := h.Sum32() % uint32(n)
		out[i] = append(out[i], t)
	}
	return out
}

// share returns a match for n packets of total.
func share(n, total int) string {
	if n == total {
		return ""
	}
	return fmt.Sprintf(" -m statistic --mode random --probability %0.10f", float64(n)/float64(total))
}

// random returns the match for the i-th of n targets: each gets an equal
// share, because the i-th takes one of n-i of what the earlier ones left.
func (p *path) random(i, n int) string {
	if !p.facts.Kernel.Statistic {
		return ""
	}
	return share(1, n-i)
}

func dnat(t model.Target) string { return " -j DNAT --to-destination " + t.AddrPort.String() }

// flat returns a rule for each of targets.
func (p *path) flat(match, comment string, targets []model.Target) []ruleset.Rule {
	out := make([]ruleset.Rule, 0, len(targets))
	for i, t := range targets {
		out = append(out, ruleset.Rule(match+p.random(i, len(targets))+comment+dnat(t)))
		comment = "" // those that follow have the same match
	}
	return out
}

// choose returns the rules for new clients.
func (p *path) choose(match, comment string, targets []model.Target) []ruleset.Rule {
	switch {
	case p.affinity == 0:
		return p.flat(match, comment, targets)
	case p.facts.Kernel.IPSets:
		return p.remember(match, comment, targets)
	}
	var out []ruleset.Rule
	for i, t := range targets {
		out = append(out, ruleset.Rule(match+p.random(i, len(targets))+p.note(p.clients(t))+comment+dnat(t)))
		comment = ""
	}
	return out
}

// remember puts the client into the set of a target, and then sends it to the
// target in whose set it is. That saves a chain per target: a random choice cannot be made
// for two rules at once. The last one takes what is left, also when a set is full.
func (p *path) remember(match, comment string, targets []model.Target) []ruleset.Rule {
	out := make([]ruleset.Rule, 0, 2*len(targets))
	for i, t := range targets {
		out = append(out, ruleset.Rule(match+p.random(i, len(targets))+comment+p.note(p.clients(t))))
		comment = ""
		in := ""
		if i < len(targets)-1 {
			in = p.knows(p.clients(t))
		}
		out = append(out, ruleset.Rule(match+in+dnat(t)))
	}
	return out
}

// known returns the rules for clients that have a target, which they keep for as
// long again.
func (p *path) known(match, comment string, targets []model.Target) []ruleset.Rule {
	if p.affinity == 0 {
		return nil
	}
	var out []ruleset.Rule
	for _, t := range targets {
		list := p.clients(t)
		if p.facts.Kernel.IPSets {
			out = append(out, ruleset.Rule(match+p.knows(list)+comment+p.note(list)), ruleset.Rule(match+p.knows(list)+dnat(t)))
		} else {
			out = append(out, ruleset.Rule(fmt.Sprintf("%s -m recent --name %s --update --seconds %d --reap%s%s",
				match, list, int(p.affinity.Seconds()), comment, dnat(t))))
		}
		comment = ""
	}
	return out
}

// knows matches sources that are in a set, or a recent list.
func (p *path) knows(list string) string {
	if p.facts.Kernel.IPSets {
		return " -m set --match-set " + list + " src"
	}
	return fmt.Sprintf(" -m recent --name %s --rcheck --seconds %d --reap", list, int(p.affinity.Seconds()))
}

// note puts the source into a set, which is a target, or a recent list, which is a match.
func (p *path) note(list string) string {
	if p.facts.Kernel.IPSets {
		return fmt.Sprintf(" -j SET --add-set %s src --exist --timeout %d", list, int(p.affinity.Seconds()))
	}
	return " -m recent --name " + list + " --set"
}

// clients is the name of the set, or the recent list, of the clients of a target. It is the same for
// all paths of a Service port, as a client keeps its target whichever way it comes.
func (p *path) clients(t model.Target) string {
	return ruleset.HashedName("AFF-", p.name.String()+p.proto+t.AddrPort.String())
}

// ipSets returns the IP set of that name, if that is what lists are.
func (p *path) ipSets(list string) []string {
	if !p.facts.Kernel.IPSets {
		return nil
	}
	return []string{list}
}
