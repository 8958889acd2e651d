package ledger

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

// Key names a Service.
type Key = types.NamespacedName

// Ledger has the EndpointSlices and Endpoints of each Service, in the newest
// version that is known: the informer's, or the one that the controller has just
// written and that the informer has yet to see. It is safe for concurrent use.
//
// The events of the controller's own writes come back through the informers,
// before or after the write returns. They must not cause another plan, while the
// writes of others must: so events that come during writes are held back until
// it is known which versions were the controller's own.
type Ledger struct {
	mu       sync.Mutex
	services map[Key]*page
	// gone has what the controller has deleted and the informer still shows.
	gone map[types.UID]time.Time
}

type page struct {
	entries map[ID]*entry
	writing bool
	// held are the events that came while writing and that no own write explains.
	held []version
}

// ID tells the objects of one Service apart.
type ID struct {
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

// New returns an empty Ledger.
func New() *Ledger {
	return &Ledger{services: map[Key]*page{}, gone: map[types.UID]time.Time{}}
}

// IDOf returns the ID of an object.
func IDOf(o plan.Object) ID {
	_, isEndpoints := o.(*corev1.Endpoints)
	return ID{isEndpoints, o.GetName()}
}

func (l *Ledger) page(k Key) *page {
	p := l.services[k]
	if p == nil {
		p = &page{entries: map[ID]*entry{}}
		l.services[k] = p
	}
	return p
}

func (l *Ledger) tidy(k Key) {
	if p := l.services[k]; p != nil && len(p.entries) == 0 && !p.writing {
		delete(l.services, k)
	}
}

// Of returns what is published for a Service.
func (l *Ledger) Of(k Key) (eps []*discoveryv1.EndpointSlice, endpoints *corev1.Endpoints) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.services[k]
	if p == nil {
		return nil, nil
	}
	for _, e := range p.entries {
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

// Observe takes in what an informer shows, and says whether somebody else did
// that, so that the Service has to be planned again.
func (l *Ledger) Observe(k Key, o plan.Object) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, deleted := l.gone[o.GetUID()]; deleted {
		return false
	}
	p, id := l.page(k), IDOf(o)
	if have := p.entries[id]; have != nil && have.object.GetUID() == o.GetUID() && !newer(o.GetResourceVersion(), have.object.GetResourceVersion()) {
		if have.object.GetResourceVersion() == o.GetResourceVersion() {
			p.entries[id] = &entry{object: o} // the cache's own, so that there is only one
		}
		return false
	}
	p.entries[id] = &entry{object: o}
	return p.foreign(versionOf(o))
}

// ObserveDelete takes in that an object is gone, like Observe.
func (l *Ledger) ObserveDelete(k Key, o plan.Object) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ours := l.gone[o.GetUID()]; ours {
		delete(l.gone, o.GetUID())
		return false
	}
	p := l.page(k)
	defer l.tidy(k)
	if have := p.entries[IDOf(o)]; have != nil && have.object.GetUID() == o.GetUID() {
		delete(p.entries, IDOf(o))
	}
	return p.foreign(version{uid: o.GetUID()})
}

func (p *page) foreign(v version) bool {
	if p.writing {
		p.held = append(p.held, v)
		return false
	}
	return true
}

// explain drops a held event that an own write has caused.
func (p *page) explain(v version) bool {
	i := slices.Index(p.held, v)
	if i < 0 {
		return false
	}
	p.held = slices.Delete(p.held, i, i+1)
	return true
}

// begin is called before the writes for a Service.
func (l *Ledger) begin(k Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page(k).writing = true
}

// end is called after them, and says whether somebody else wrote meanwhile.
func (l *Ledger) end(k Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.page(k)
	others := len(p.held) > 0
	p.writing, p.held = false, nil
	l.tidy(k)
	return others
}

// wrote takes in what the server made of a write.
func (l *Ledger) wrote(k Key, o plan.Object, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, id := l.page(k), IDOf(o)
	seen := p.explain(versionOf(o))
	have := p.entries[id]
	if have != nil && have.object.GetUID() == o.GetUID() && !newer(o.GetResourceVersion(), have.object.GetResourceVersion()) {
		return // the informer was quicker
	}
	if seen && have == nil {
		return // written, seen, and deleted by somebody else since
	}
	p.entries[id] = &entry{object: o, since: at}
}

// removed takes in that the server has deleted an object, or has it no more.
func (l *Ledger) removed(k Key, o plan.Object, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.page(k)
	if have := p.entries[IDOf(o)]; have != nil && have.object.GetUID() == o.GetUID() {
		delete(p.entries, IDOf(o))
	}
	if !p.explain(version{uid: o.GetUID()}) {
		l.gone[o.GetUID()] = at
	}
	l.tidy(k)
}

// unconfirmed is an own write that no informer has shown.
type unconfirmed struct {
	key    Key
	object plan.Object
}

// overdue returns the own writes from before that time which are unconfirmed,
// and forgets the deletions from before forgetBefore.
func (l *Ledger) overdue(before, forgetBefore time.Time) []unconfirmed {
	l.mu.Lock()
	defer l.mu.Unlock()
	for uid, at := range l.gone {
		if at.Before(forgetBefore) {
			delete(l.gone, uid)
		}
	}
	var out []unconfirmed
	for k, p := range l.services {
		for _, e := range p.entries {
			if !e.since.IsZero() && e.since.Before(before) {
				out = append(out, unconfirmed{k, e.object})
			}
		}
	}
	return out
}

// checked notes that an overdue write was found to be in force after all.
func (l *Ledger) checked(u unconfirmed, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.page(u.key).entries[IDOf(u.object)]; e != nil && e.object == u.object {
		e.since = at
	}
	l.tidy(u.key)
}
