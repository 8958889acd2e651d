package render

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// How chains of a tree are cut. A chain with more rules is split by the next four
// bits of what the tree goes by, and what is left of it then gets a chain of its
// own only if that is worth a rule that leads to it. Small chains make changes
// cheap, as a change rewrites the chain, and many of them make the whole
// expensive, as the nft program pays for each. So what is down to one address or
// port has to be more than one Service port may have there: with a chain
// for each of 10,000 Services of ten endpoints the start takes three times the
// processor time, and a change half of it, which is 5 ms. See BenchmarkRestore.
const (
	leafRules   = 64
	inlineRules = 8
	inlineWhole = inlineTargets
)

// entry is what a Service port wants to have in a tree. Two with the same key want
// the same packets; one of them gets them.
type entry struct {
	tree  *tree
	key   string
	rules []ruleset.Rule
	owner model.ServicePortName
	// field is what to name if another Service got the packets; empty where
	// many may want the same.
	field string
}

// byRank decides which of several claims counts, whatever came first: the first one.
func byRank(a, b *entry) int {
	return cmp.Or(a.owner.Name.Compare(b.owner.Name), strings.Compare(a.owner.Port, b.owner.Port),
		strings.Compare(string(a.owner.Protocol), string(b.owner.Protocol)))
}

// tree leads packets to entries by a key, which is a series of four-bit digits
// of an address, a protocol or a port (see space). Its shape depends on what is in it alone,
// and not on how that came there.
type tree struct {
	table ruleset.Table
	space space
	// tag starts the names of chains below the first ones.
	tag string
	// root is the name of the only first chain. Without it, each first digit has one.
	root string
	// head and tail stand before and after the rest of the first chains; end at
	// the end of those below.
	head, tail, end []ruleset.Rule
	// always keeps the root even when nothing is in it.
	always bool

	top   *node
	gone  []ruleset.Key // chains whose nodes are gone
	dirty bool
}

// role is what a node is in the present layout.
type role int8

const (
	within role = iota // its rules are in the chain of a node above
	inner              // it has a chain
	first              // it has a chain that is entered from outside of the tree
)

// node stands for all entries whose keys start with key. It has claims of that
// very key, or at least two children.
type node struct {
	key      string
	claims   []*entry // by rank; the first counts
	children []*node  // by their digit
	weight   int      // rules below, and its own
	role     role
	dirty    bool
}

func newTree(t tree) *tree {
	t.top, t.dirty = &node{dirty: true}, true
	return &t
}

func (n *node) child(digit byte) (int, bool) {
	return slices.BinarySearchFunc(n.children, digit, func(c *node, d byte) int { return int(c.key[len(n.key)]) - int(d) })
}

func (n *node) own() []ruleset.Rule {
	if len(n.claims) == 0 {
		return nil
	}
	return n.claims[0].rules
}

// weigh counts again what is at and below n.
func (n *node) weigh() {
	n.weight, n.dirty = len(n.own()), true
	for _, c := range n.children {
		n.weight += c.weight
	}
}

func (t *tree) add(e *entry) {
	t.dirty = true
	t.insert(t.top, e)
}

func (t *tree) insert(n *node, e *entry) {
	defer n.weigh()
	if len(n.key) == len(e.key) {
		at, _ := slices.BinarySearchFunc(n.claims, e, byRank)
		n.claims = slices.Insert(n.claims, at, e)
		return
	}
	i, found := n.child(e.key[len(n.key)])
	if !found {
		n.children = slices.Insert(n.children, i, &node{key: e.key})
	} else if common := commonLen(n.children[i].key, e.key); common < len(n.children[i].key) {
		n.children[i] = &node{key: e.key[:common], children: []*node{n.children[i]}}
	}
	t.insert(n.children[i], e)
}

func commonLen(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func (t *tree) remove(e *entry) {
	t.dirty = true
	t.drop(t.top, e)
}

func (t *tree) drop(n *node, e *entry) {
	defer n.weigh()
	if len(n.key) == len(e.key) {
		at, _ := slices.BinarySearchFunc(n.claims, e, byRank)
		for n.claims[at] != e { // its owner may claim the same for another of its front ends
			at++
		}
		n.claims = slices.Delete(n.claims, at, at+1)
		return
	}
	i, _ := n.child(e.key[len(n.key)])
	c := n.children[i]
	t.drop(c, e)
	if len(c.claims) > 0 || len(c.children) > 1 {
		return
	}
	// Nothing forks here any more.
	if c.role != within {
		t.gone = append(t.gone, t.chainKey(c, c.role))
	}
	if len(c.children) == 0 {
		n.children = slices.Delete(n.children, i, i+1)
	} else {
		n.children[i] = c.children[0]
	}
}

// holder returns the entry that gets what e wants.
func (t *tree) holder(e *entry) *entry {
	n := t.top
	for len(n.key) < len(e.key) {
		i, _ := n.child(e.key[len(n.key)])
		n = n.children[i]
	}
	return n.claims[0]
}

func (t *tree) chainKey(n *node, r role) ruleset.Key {
	key := n.key
	if r == first {
		key = t.space.entrance(key)
	}
	return ruleset.Key{Table: t.table, Name: t.space.name(t.tag, key)}
}

// settle puts into changes all chains that are others than at the last call. Its
// cost follows the number of entries that came and went.
func (t *tree) settle(changes map[ruleset.Key]*ruleset.Chain) {
	if !t.dirty {
		return
	}
	t.dirty = false
	written := map[ruleset.Key]*ruleset.Chain{}
	if t.root != "" {
		t.layRoot(written)
	} else {
		for _, c := range t.top.children {
			t.lay(c, first, written)
		}
	}
	// A name that one node gives up, another may have taken.
	for _, k := range t.gone {
		changes[k] = nil
	}
	t.gone = nil
	maps.Copy(changes, written)
}

func (t *tree) layRoot(written map[ruleset.Key]*ruleset.Chain) {
	n := t.fork()
	k := ruleset.Key{Table: t.table, Name: t.root}
	if n.weight > 0 || t.always {
		written[k] = &ruleset.Chain{Key: k, Rules: t.firstRules(n)}
	} else {
		t.gone = append(t.gone, k)
	}
	for _, c := range n.children {
		t.lay(c, t.below(n, c), written)
	}
}

func (t *tree) firstRules(n *node) []ruleset.Rule {
	return slices.Concat(t.head, t.body(n, t.splits(n), t.down()), t.tail)
}

// fork returns the highest node from which there is more than one way; those
// above need no chain beside the root.
func (t *tree) fork() *node {
	n := t.top
	for n.dirty = false; len(n.claims) == 0 && len(n.children) == 1; n.dirty = false {
		n = n.children[0]
		if n.role != within {
			t.gone = append(t.gone, t.chainKey(n, n.role))
			n.role = within
		}
	}
	return n
}

// lay gives n its role, and all below it theirs.
func (t *tree) lay(n *node, r role, written map[ruleset.Key]*ruleset.Chain) {
	if !n.dirty && n.role == r {
		return
	}
	if n.role != within {
		t.gone = append(t.gone, t.chainKey(n, n.role))
	}
	k := t.chainKey(n, r)
	switch r {
	case first:
		written[k] = &ruleset.Chain{Key: k, Rules: t.firstRules(n)}
	case inner:
		written[k] = &ruleset.Chain{Key: k, Rules: append(t.body(n, t.splits(n), " -g "), t.end...)}
	case within:
	}
	n.role, n.dirty = r, false
	for _, c := range n.children {
		if r == within {
			t.lay(c, within, written)
		} else {
			t.lay(c, t.below(n, c), written)
		}
	}
}

func (t *tree) splits(n *node) bool { return n.weight > leafRules && len(n.children) > 0 }

// worthwhile reports whether c gets a chain when what is above it is split.
func (t *tree) worthwhile(c *node) bool {
	if len(c.key) >= t.space.whole() {
		return c.weight > inlineWhole
	}
	return c.weight > inlineRules
}

// below returns the role of c in the chain of n.
func (t *tree) below(n, c *node) role {
	if t.splits(n) && t.worthwhile(c) {
		return inner
	}
	return within
}

// down is how first chains lead down: so that packets come back, if there is
// something at the end.
func (t *tree) down() string {
	if len(t.tail) > 0 {
		return " -j "
	}
	return " -g "
}

// body returns the rules of n for its own chain.
func (t *tree) body(n *node, split bool, down string) []ruleset.Rule {
	out := slices.Clone(n.own())
	for _, c := range n.children {
		if split && t.worthwhile(c) {
			out = append(out, ruleset.Rule(t.space.match(c.key)+down+t.chainKey(c, inner).Name))
		} else {
			out = append(out, t.body(c, false, "")...)
		}
	}
	return out
}

// entrances returns the rules that lead into a tree without root.
func (t *tree) entrances() []ruleset.Rule {
	var out []ruleset.Rule
	for _, c := range t.top.children {
		out = append(out, ruleset.Rule(t.space.match(t.space.entrance(c.key))+" -j "+t.chainKey(c, first).Name))
	}
	return out
}

func (t *tree) empty() bool { return t.top.weight == 0 }
