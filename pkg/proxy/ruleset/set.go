package ruleset

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"
)

// shardCount is how many parts a Set has. A change copies one part: some 50
// chains of 14,000.
const shardCount = 256

// shard is compared by its address: two Sets that hold the same *shard agree on
// all of it.
type shard struct{ chains map[Key]*Chain }

func (s *shard) all() map[Key]*Chain {
	if s == nil {
		return nil
	}
	return s.chains
}

// Set is all the chains that Signpost wants in one address family. Immutable;
// the zero value is empty. With returns a changed copy.
type Set struct {
	shards [shardCount]*shard
	chains int
	rules  [3]int // by table, in the order of Tables
}

// seed is the same for all Sets of a process, as they are compared part by part.
var seed = maphash.MakeSeed()

func shardOf(k Key) int { return int(maphash.Comparable(seed, k) % shardCount) }

// Get returns the chain, or nil.
func (s *Set) Get(k Key) *Chain { return s.shards[shardOf(k)].all()[k] }

// Len returns the number of chains.
func (s *Set) Len() int { return s.chains }

// Rules returns the number of rules in all chains of a table.
func (s *Set) Rules(t Table) int { return s.rules[slices.Index(Tables(), t)] }

// All iterates over the chains, in no particular order.
func (s *Set) All() iter.Seq[*Chain] {
	return func(yield func(*Chain) bool) {
		for _, sh := range s.shards {
			for _, c := range sh.all() {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// Keys returns the keys of all chains, in no particular order.
func (s *Set) Keys() []Key {
	out := make([]Key, 0, s.chains)
	for c := range s.All() {
		out = append(out, c.Key)
	}
	return out
}

// With returns the Set with changes applied: a key with a nil Chain is removed,
// any other is set; all keys must be of one of Tables. s itself stays as it was, and so do the parts that the new
// Set shares with it.
func (s *Set) With(changes map[Key]*Chain) *Set {
	next := *s
	for k, c := range changes {
		was := s.Get(k)
		if was.Equal(c) {
			continue
		}
		i := shardOf(k)
		if next.shards[i] == s.shards[i] {
			next.shards[i] = &shard{chains: maps.Clone(s.shards[i].all())}
			if next.shards[i].chains == nil {
				next.shards[i].chains = map[Key]*Chain{}
			}
		}
		next.put(next.shards[i].chains, k, was, c)
	}
	return &next
}

func (s *Set) put(chains map[Key]*Chain, k Key, was, now *Chain) {
	i := slices.Index(Tables(), k.Table)
	if was != nil {
		s.chains--
		s.rules[i] -= len(was.Rules)
	}
	if now == nil {
		delete(chains, k)
		return
	}
	s.chains++
	s.rules[i] += len(now.Rules)
	chains[k] = now
}

// Apply returns s with c applied.
func (s *Set) Apply(c Change) *Set {
	changes := make(map[Key]*Chain, len(c.Write)+len(c.Delete))
	for _, k := range c.Delete {
		changes[k] = nil
	}
	for _, chain := range c.Write {
		changes[chain.Key] = chain
	}
	return s.With(changes)
}
