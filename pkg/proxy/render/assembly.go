package render

import (
	"maps"
	"slices"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// assembly puts together the chains that Services share: it knows the entries
// of each, and builds a chain from them when it has changed.
type assembly map[ruleset.Key]*assembled

// assembled is a place with what is in it.
type assembled struct {
	*place
	entries  map[string][]entry        // by order; those that want the same sorted by owner
	children map[string][]ruleset.Rule // by order; what leads to the places below
}

// open returns the place of that key, which is p if it is the first. So all
// entries of a place share one object.
func (a assembly) open(p *place) *place {
	if have := a[p.key]; have != nil {
		return have.place
	}
	if p.parent != nil {
		p.parent = a.open(p.parent)
	}
	a[p.key] = &assembled{place: p, entries: map[string][]entry{}, children: map[string][]ruleset.Rule{}}
	return p
}

func (a assembly) add(e entry, dirty map[ruleset.Key]struct{}) {
	at := a[e.at.key]
	claims := append(at.entries[e.order], e)
	slices.SortFunc(claims, func(x, y entry) int { return strings.Compare(x.rank(), y.rank()) })
	at.entries[e.order] = claims
	dirty[at.key] = struct{}{}
	a.link(at, dirty)
}

// rank decides which of several claims counts, whatever came first.
func (e entry) rank() string { return e.owner.String() + " " + string(e.owner.Protocol) }

// link makes the place reachable from above.
func (a assembly) link(at *assembled, dirty map[ruleset.Key]struct{}) {
	if at.parent == nil {
		return
	}
	parent := a[at.parent.key]
	if _, linked := parent.children[at.order]; linked {
		return
	}
	parent.children[at.order] = at.via
	dirty[parent.key] = struct{}{}
	a.link(parent, dirty)
}

func (a assembly) remove(e entry, dirty map[ruleset.Key]struct{}) {
	at := a[e.at.key]
	claims := at.entries[e.order]
	i := slices.IndexFunc(claims, func(x entry) bool { return x.owner == e.owner })
	claims = slices.Delete(slices.Clone(claims), i, i+1)
	if len(claims) == 0 {
		delete(at.entries, e.order)
	} else {
		at.entries[e.order] = claims
	}
	dirty[at.key] = struct{}{}
	a.unlink(at, dirty)
}

// unlink forgets the place, and those above it that are empty then. A place that
// came to be empty in the middle of an Update may fill up again; it is opened
// again then.
func (a assembly) unlink(at *assembled, dirty map[ruleset.Key]struct{}) {
	if at.parent == nil || len(at.entries)+len(at.children) > 0 {
		return
	}
	parent := a[at.parent.key]
	delete(a, at.key)
	delete(parent.children, at.order)
	dirty[parent.key] = struct{}{}
	a.unlink(parent, dirty)
}

// chain builds the chain; nil if there is none any more.
func (a assembly) chain(k ruleset.Key) *ruleset.Chain {
	at := a[k]
	if at == nil {
		return nil
	}
	rules := slices.Clone(at.head)
	for _, o := range slices.Sorted(maps.Keys(at.children)) {
		rules = append(rules, at.children[o]...)
	}
	for _, o := range slices.Sorted(maps.Keys(at.entries)) {
		rules = append(rules, at.entries[o][0].rule)
	}
	return &ruleset.Chain{Key: k, Rules: append(rules, at.tail...)}
}

// holder returns the entry that gets what e wants.
func (a assembly) holder(e entry) entry { return a[e.at.key].entries[e.order][0] }
