package endpoints

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

// published has the EndpointSlices and Endpoints of each Service, in the newest
// version that is known: the informer's, or the one that the controller has just
// written and that the informer has yet to see. It is safe for concurrent use.
//
// The events of the controller's own writes come back through the informers,
// before or after the write returns. They must not cause another plan, while the
// writes of others must: so events that come during writes are held back until
// it is known which versions were the controller's own.
type published struct {
	mu       sync.Mutex
	services map[key]*ledger
	// gone has what the controller has deleted and the informer still shows.
	gone map[types.UID]time.Time
}

type ledger struct {
	entries map[entryID]*entry
	writing bool
	// held are the events that came while writing and that no own write explains.
	held []version
}

// entryID tells the objects of one Service apart.
type entryID struct {
	endpoints bool
	name      string
}

type entry struct {
	object plan.Object
	// since is when the controller wrote it, until the informer has seen it.
	since time.Time
}

// version is one state of an object; its text is empty for "deleted".
type version struct {
	uid  types.UID
	text string
}

func versionOf(o plan.Object) version { return version{o.GetUID(), o.GetResourceVersion()} }

func newPublished() *published {
	return &published{services: map[key]*ledger{}, gone: map[types.UID]time.Time{}}
}

func idOf(o plan.Object) entryID {
	_, isEndpoints := o.(*corev1.Endpoints)
	return entryID{isEndpoints, o.GetName()}
}

func (p *published) ledger(k key) *ledger {
	l := p.services[k]
	if l == nil {
		l = &ledger{entries: map[entryID]*entry{}}
		p.services[k] = l
	}
	return l
}

func (p *published) tidy(k key) {
	if l := p.services[k]; l != nil && len(l.entries) == 0 && !l.writing {
		delete(p.services, k)
	}
}

// of returns what is published for a Service.
func (p *published) of(k key) (eps []*discoveryv1.EndpointSlice, endpoints *corev1.Endpoints) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.services[k]
	if l == nil {
		return nil, nil
	}
	for _, e := range l.entries {
		switch o := e.object.(type) {
		case *discoveryv1.EndpointSlice:
			eps = append(eps, o)
		case *corev1.Endpoints:
			endpoints = o
		}
	}
	return eps, endpoints
}

// newer says whether version a comes after b. Versions of one object can be
// compared; should a server have others, the one that came last counts.
func newer(a, b string) bool {
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || c > 0
}

// observe takes in what an informer shows, and says whether somebody else did
// that, so that the Service has to be planned again.
func (p *published) observe(k key, o plan.Object) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, deleted := p.gone[o.GetUID()]; deleted {
		return false
	}
	l, id := p.ledger(k), idOf(o)
	if have := l.entries[id]; have != nil && have.object.GetUID() == o.GetUID() && !newer(o.GetResourceVersion(), have.object.GetResourceVersion()) {
		if have.object.GetResourceVersion() == o.GetResourceVersion() {
			l.entries[id] = &entry{object: o} // the cache's own, so that there is only one
		}
		return false
	}
	l.entries[id] = &entry{object: o}
	return l.foreign(versionOf(o))
}

// observeDelete takes in that an object is gone, like observe.
func (p *published) observeDelete(k key, o plan.Object) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ours := p.gone[o.GetUID()]; ours {
		delete(p.gone, o.GetUID())
		return false
	}
	l := p.ledger(k)
	defer p.tidy(k)
	if have := l.entries[idOf(o)]; have != nil && have.object.GetUID() == o.GetUID() {
		delete(l.entries, idOf(o))
	}
	return l.foreign(version{uid: o.GetUID()})
}

func (l *ledger) foreign(v version) bool {
	if l.writing {
		l.held = append(l.held, v)
		return false
	}
	return true
}

// explain drops a held event that an own write has caused.
func (l *ledger) explain(v version) bool {
	i := slices.Index(l.held, v)
	if i < 0 {
		return false
	}
	l.held = slices.Delete(l.held, i, i+1)
	return true
}

// begin is called before the writes for a Service.
func (p *published) begin(k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ledger(k).writing = true
}

// end is called after them, and says whether somebody else wrote meanwhile.
func (p *published) end(k key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.ledger(k)
	others := len(l.held) > 0
	l.writing, l.held = false, nil
	p.tidy(k)
	return others
}

// wrote takes in what the server made of a write.
func (p *published) wrote(k key, o plan.Object, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, id := p.ledger(k), idOf(o)
	seen := l.explain(versionOf(o))
	have := l.entries[id]
	if have != nil && have.object.GetUID() == o.GetUID() && !newer(o.GetResourceVersion(), have.object.GetResourceVersion()) {
		return // the informer was quicker
	}
	if seen && have == nil {
		return // written, seen, and deleted by somebody else since
	}
	l.entries[id] = &entry{object: o, since: at}
}

// removed takes in that the server has deleted an object, or has it no more.
func (p *published) removed(k key, o plan.Object, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.ledger(k)
	if have := l.entries[idOf(o)]; have != nil && have.object.GetUID() == o.GetUID() {
		delete(l.entries, idOf(o))
	}
	if !l.explain(version{uid: o.GetUID()}) {
		p.gone[o.GetUID()] = at
	}
	p.tidy(k)
}

// unconfirmed is an own write that no informer has shown.
type unconfirmed struct {
	key    key
	object plan.Object
}

// overdue returns the own writes from before that time which are unconfirmed,
// and forgets the deletions from before forgetBefore.
func (p *published) overdue(before, forgetBefore time.Time) []unconfirmed {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, at := range p.gone {
		if at.Before(forgetBefore) {
			delete(p.gone, uid)
		}
	}
	var out []unconfirmed
	for k, l := range p.services {
		for _, e := range l.entries {
			if !e.since.IsZero() && e.since.Before(before) {
				out = append(out, unconfirmed{k, e.object})
			}
		}
	}
	return out
}

// checked notes that an overdue write was found to be in force after all.
func (p *published) checked(u unconfirmed, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.ledger(u.key).entries[idOf(u.object)]; e != nil && e.object == u.object {
		e.since = at
	}
	p.tidy(u.key)
}
