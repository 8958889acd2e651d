package model

import (
	"hash/maphash"
	"iter"
	"maps"
)

// shardCount is how many parts a ServiceMap has. A change copies one part, so
// at 10,000 Services it copies some 40 entries, and a comparison of two maps
// looks only into the parts that differ.
const shardCount = 256

// shard is one part of a map. It is compared by its address: two maps that hold
// the same *shard agree on all of it.
type shard struct{ services map[Name]*Service }

// ServiceMap is an immutable map from name to Service. The zero value is empty.
// With returns a changed copy that shares all untouched parts.
type ServiceMap struct {
	shards [shardCount]*shard
	len    int
}

// seed is the same for all maps of a process, as Diff compares them part by part.
var seed = maphash.MakeSeed()

func shardOf(n Name) int { return int(maphash.Comparable(seed, n) % shardCount) }

// Len returns the number of Services.
func (m *ServiceMap) Len() int { return m.len }

// Get returns the Service of that name, or nil.
func (m *ServiceMap) Get(n Name) *Service { return m.shards[shardOf(n)].get(n) }

func (s *shard) get(n Name) *Service {
	if s == nil {
		return nil
	}
	return s.services[n]
}

func (s *shard) all() map[Name]*Service {
	if s == nil {
		return nil
	}
	return s.services
}

// All iterates over the Services, in no particular order.
func (m *ServiceMap) All() iter.Seq2[Name, *Service] {
	return func(yield func(Name, *Service) bool) {
		for _, sh := range m.shards {
			for n, s := range sh.all() {
				if !yield(n, s) {
					return
				}
			}
		}
	}
}

// With returns the map with changes applied: a name with a nil Service is
// removed, any other is set. m itself stays as it was.
func (m *ServiceMap) With(changes map[Name]*Service) ServiceMap {
	next := *m
	for n, s := range changes {
		i := shardOf(n)
		if next.shards[i] == m.shards[i] {
			next.shards[i] = &shard{services: maps.Clone(m.shards[i].all())}
			if next.shards[i].services == nil {
				next.shards[i].services = map[Name]*Service{}
			}
		}
		services := next.shards[i].services
		before := len(services)
		if s == nil {
			delete(services, n)
		} else {
			services[n] = s
		}
		next.len += len(services) - before
	}
	return next
}

// Diff returns the names whose Service is not the same object in m and older:
// those to look at again. Its cost follows the number of changes, not the
// number of Services, when one map was made from the other by With.
func (m *ServiceMap) Diff(older *ServiceMap) []Name {
	var out []Name
	for i, now := range m.shards {
		was := older.shards[i]
		if now == was {
			continue
		}
		for n, s := range now.all() {
			if was.get(n) != s {
				out = append(out, n)
			}
		}
		for n := range was.all() {
			if now.get(n) == nil {
				out = append(out, n)
			}
		}
	}
	return out
}
