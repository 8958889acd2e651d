package records

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Basis is what an Answer rests on: for as long as a View Holds it, the same
// question has the same Answer. That way who keeps Answers need not know how they
// came about, and a change costs nothing for those that it does not touch.
//
// It keeps the Services that it names in memory.
type Basis struct {
	// rest is that of the View, see there.
	rest    uint64
	service usedService
	// more is for the few Answers that rest on other things than one Service.
	more *moreBasis
}

type usedService struct {
	name model.Name
	is   *model.Service // nil if there was none
}

type moreBasis struct {
	services   []usedService
	namespaces []usedNamespace
	// version, if not 0, is that of the only View that the Answer is of.
	version uint64
	addr    netip.Addr
	owners  []owner
	// pod, if it has an address, was the node's own or not.
	pod   model.PodAddress
	isPod bool
}

type usedNamespace struct {
	name   string
	exists bool
}

// All methods that add may be called on a nil Basis, when nobody wants to know.

func (b *Basis) addService(n model.Name, is *model.Service) {
	switch {
	case b == nil:
	case b.service.name == (model.Name{}):
		b.service = usedService{n, is}
	default:
		m := b.others()
		m.services = append(m.services, usedService{n, is})
	}
}

func (b *Basis) addNamespace(name string, exists bool) {
	if b != nil {
		m := b.others()
		m.namespaces = append(m.namespaces, usedNamespace{name, exists})
	}
}

func (b *Basis) addOwners(a netip.Addr, owners []owner) {
	if b != nil {
		b.others().addr, b.more.owners = a, owners
	}
}

func (b *Basis) addPod(at model.PodAddress, is bool) {
	if b != nil {
		b.others().pod, b.more.isPod = at, is
	}
}

// addView makes b that of v alone.
func (b *Basis) addView(v *View) {
	if b != nil {
		b.others().version = v.version
	}
}

func (b *Basis) others() *moreBasis {
	if b.more == nil {
		b.more = &moreBasis{}
	}
	return b.more
}

// Holds reports whether b is as true of v as it was of the View that made it,
// which must be v or one that v came from by Next. It allocates nothing.
func (v *View) Holds(b *Basis) bool {
	if b.rest != v.rest || v.snapshot == nil || !v.holdsService(&b.service) {
		return false
	}
	m := b.more
	if m == nil {
		return true
	}
	for i := range m.services {
		if !v.holdsService(&m.services[i]) {
			return false
		}
	}
	for _, n := range m.namespaces {
		if _, exists := v.snapshot.Namespaces[n.name]; exists != n.exists {
			return false
		}
	}
	if _, is := v.snapshot.Pods[m.pod]; m.pod.Addr.IsValid() && is != m.isPod {
		return false
	}
	return (m.version == 0 || m.version == v.version) &&
		(!m.addr.IsValid() || slices.Equal(m.owners, v.reverse.owners(m.addr)))
}

func (v *View) holdsService(u *usedService) bool {
	return u.name == (model.Name{}) || v.snapshot.Services.Get(u.name) == u.is
}

// restChanged reports whether two Snapshots differ in anything but what a Basis
// lists: their Services, Namespaces and Pods.
func restChanged(older, newer *model.Snapshot) bool {
	if older == nil {
		return true
	}
	strip := func(s model.Snapshot) model.Snapshot {
		s.Generation, s.Services, s.Namespaces, s.Pods = 0, model.ServiceMap{}, nil, nil
		return s
	}
	return !reflect.DeepEqual(strip(*older), strip(*newer))
}
