package render

import (
	"maps"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Renderer renders the Services of one family, and keeps what it has rendered, so
// that the next call of Update costs what has changed since. What it returns is
// the same as if it had been made anew for the Services of the last Update.
//
// Not safe for concurrent use. The Sets it returns are.
type Renderer struct {
	facts     facts
	services  model.ServiceMap
	fragments map[model.Name]*fragment
	trees     *trees
	set       *ruleset.Set
}

// New returns a Renderer that has rendered no Services. A change of cfg or node
// takes another Renderer.
func New(family ruleset.Family, cfg Config, node model.Node) *Renderer {
	r := &Renderer{facts: newFacts(family, cfg, node), fragments: map[model.Name]*fragment{}}
	r.trees = r.facts.newTrees()
	changes := map[ruleset.Key]*ruleset.Chain{}
	for _, c := range r.facts.fixed() {
		changes[c.Key] = c
	}
	r.settle(changes)
	r.set = (&ruleset.Set{}).With(changes)
	return r
}

// Update renders services and returns the Set.
func (r *Renderer) Update(services *model.ServiceMap) *ruleset.Set {
	changes := map[ruleset.Key]*ruleset.Chain{}
	// Removals first, as an added Service may have a removed one's chain.
	names := services.Diff(&r.services)
	for _, n := range names {
		r.remove(n, changes)
	}
	for _, n := range names {
		if svc := services.Get(n); svc != nil {
			r.add(svc, changes)
		}
	}
	if len(names) > 0 {
		r.settle(changes)
		r.set = r.set.With(changes)
	}
	r.services = *services
	return r.set
}

// settle puts into changes what has changed in the chains that Services share.
func (r *Renderer) settle(changes map[ruleset.Key]*ruleset.Chain) {
	for _, t := range r.trees.all() {
		t.settle(changes)
	}
	for _, c := range []*ruleset.Chain{r.trees.natServices(&r.facts), r.trees.filterServices(&r.facts)} {
		changes[c.Key] = c
	}
}

func (r *Renderer) remove(n model.Name, changes map[ruleset.Key]*ruleset.Chain) {
	old := r.fragments[n]
	if old == nil {
		return
	}
	delete(r.fragments, n)
	for _, c := range old.chains {
		changes[c.Key] = nil
	}
	for _, e := range old.entries {
		e.tree.remove(e)
	}
}

func (r *Renderer) add(svc *model.Service, changes map[ruleset.Key]*ruleset.Chain) {
	frag := r.facts.fragment(r.trees, svc)
	r.fragments[svc.Name] = frag
	for _, c := range frag.chains {
		changes[c.Key] = c
	}
	for _, e := range frag.entries {
		e.tree.add(e)
	}
}

// Set returns the Set of the last Update.
func (r *Renderer) Set() *ruleset.Set { return r.set }

// Hooks returns the rules that have to stand in the kernel's own chains. They
// are inserted in this order, each at the front of its chain.
func (r *Renderer) Hooks() []ruleset.Hook { return r.facts.hooks() }

// Problems returns what of a Service could not be rendered.
func (r *Renderer) Problems(n model.Name) []model.Problem {
	frag := r.fragments[n]
	if frag == nil {
		return nil
	}
	out := slices.Clone(frag.problems)
	for _, e := range frag.entries {
		if e.field == "" {
			continue
		}
		if first := e.tree.holder(e); first != e {
			out = append(out, model.Problem{Field: e.field, Message: "port " + e.owner.String() + ": " + first.owner.String() + " already has this address and port"})
		}
	}
	return out
}

// Result is what Render returns.
type Result struct {
	Set   *ruleset.Set
	Hooks []ruleset.Hook
	// Problems are by Service; those without any are missing.
	Problems map[model.Name][]model.Problem
}

// Render renders services for one family from nothing.
func Render(family ruleset.Family, cfg Config, node model.Node, services *model.ServiceMap) Result {
	r := New(family, cfg, node)
	out := Result{Set: r.Update(services), Hooks: r.Hooks(), Problems: map[model.Name][]model.Problem{}}
	for n := range maps.Keys(r.fragments) {
		if p := r.Problems(n); len(p) > 0 {
			out.Problems[n] = p
		}
	}
	return out
}
