package packed

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/signpost-dev/signpost/pkg/dns/records"
)

const (
	// shards have a lock each, for those who write. Readers take none.
	shards = 16
	// buckets of a shard. At 10,000 Services that are asked for in both families,
	// most hold one or two entries.
	buckets = 1024
	// entryOverhead is what an entry takes beside its name and its records.
	entryOverhead = 320
	// sweepPart is which part of a shard is looked through at each change for
	// what is of no more use.
	sweepPart = 16
)

// table keeps entries until others need the room. It may be used from any
// goroutine.
type table struct {
	seed     maphash.Seed
	maxBytes int // of one shard
	shards   [shards]shard
	swept    atomic.Uint32
}

type shard struct {
	buckets [buckets]atomic.Pointer[entry]

	mu      sync.Mutex
	entries []*entry // in no order
	hand    int
	bytes   int
}

// entry is what is known of one question.
type entry struct {
	name  string
	qtype uint16
	hash  uint64
	reply Reply
	basis records.Basis
	// version is that of the View which the basis was last found to hold for.
	version atomic.Uint64
	// used is set by each hit and cleared by the hand.
	used atomic.Bool
	next atomic.Pointer[entry]
	// place is the index in the shard's entries.
	place int
}

func newTable(maxBytes int) *table {
	return &table{seed: maphash.MakeSeed(), maxBytes: maxBytes / shards}
}

// hash is seeded, so nobody can choose names that fall into one bucket.
func hash[T []byte | string](seed maphash.Seed, name T, qtype uint16) uint64 {
	var h uint64
	switch n := any(name).(type) {
	case []byte:
		h = maphash.Bytes(seed, n)
	case string:
		h = maphash.String(seed, n)
	}
	h ^= uint64(qtype) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func (t *table) shardOf(h uint64) *shard { return &t.shards[h%shards] }

func (s *shard) bucketOf(h uint64) *atomic.Pointer[entry] { return &s.buckets[h/shards%buckets] }

func (t *table) find(name []byte, qtype uint16) *entry {
	h := hash(t.seed, name, qtype)
	for e := t.shardOf(h).bucketOf(h).Load(); e != nil; e = e.next.Load() {
		if e.hash == h && e.qtype == qtype && e.name == string(name) {
			return e
		}
	}
	return nil
}

// holds reports whether e is of use for v, and remembers that it is. Who has an
// older View at the same time only makes it be looked at once more.
func (e *entry) holds(v *records.View) bool {
	if e.version.Load() == v.Version() {
		return true
	}
	if !v.Holds(&e.basis) {
		return false
	}
	e.version.Store(v.Version())
	return true
}

func (e *entry) use() {
	if !e.used.Load() { // or all cores would write to the same line
		e.used.Store(true)
	}
}

func (e *entry) cost() int {
	n := entryOverhead + len(e.name)
	for _, f := range e.reply.forms {
		n += 32 + len(f.body)
	}
	if l := e.reply.list; l != nil {
		n += 64 + len(l.records) + 4*len(l.ends)
	}
	return n
}

// put keeps e in the place of what was there. What is too large for the table is
// kept as Unpacked.
func (t *table) put(e *entry) {
	if e.cost() > t.maxBytes/2 {
		e.reply = Reply{kind: Unpacked}
	}
	e.hash = hash(t.seed, e.name, e.qtype)
	s := t.shardOf(e.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	for old := s.bucketOf(e.hash).Load(); old != nil; old = old.next.Load() {
		if old.hash == e.hash && old.qtype == e.qtype && old.name == e.name {
			e.used.Store(old.used.Load())
			s.remove(old)
			break
		}
	}
	e.next.Store(s.bucketOf(e.hash).Load())
	s.bucketOf(e.hash).Store(e)
	e.place = len(s.entries)
	s.entries = append(s.entries, e)
	s.bytes += e.cost()
	for s.bytes > t.maxBytes {
		s.evict()
	}
}

// remove takes e out. Readers that are at e go on from there.
func (s *shard) remove(e *entry) {
	at := s.bucketOf(e.hash)
	for old := at.Load(); old != e; old = at.Load() {
		at = &old.next
	}
	at.Store(e.next.Load())
	last := s.entries[len(s.entries)-1]
	s.entries[e.place], last.place = last, e.place
	s.entries[len(s.entries)-1] = nil
	s.entries = s.entries[:len(s.entries)-1]
	s.bytes -= e.cost()
}

// evict removes one entry, the first that the hand finds unused since it last came
// by.
func (s *shard) evict() {
	for {
		if s.hand >= len(s.entries) {
			s.hand = 0
		}
		e := s.entries[s.hand]
		if !e.used.Load() {
			s.remove(e)
			return
		}
		e.used.Store(false)
		s.hand++
	}
}

// sweep removes from a part of one shard what does not hold for v, so that nothing
// keeps Services in memory for ever which are gone and nobody asks for.
func (t *table) sweep(v *records.View) {
	turn := int(t.swept.Add(1))
	s := &t.shards[turn%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	part := turn / shards % sweepPart
	for i := part * buckets / sweepPart; i < (part+1)*buckets/sweepPart; i++ {
		for e := s.buckets[i].Load(); e != nil; e = e.next.Load() {
			if e.version.Load() != v.Version() && !v.Holds(&e.basis) {
				s.remove(e)
			}
		}
	}
}

func (t *table) size() (entries, octets int) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		entries, octets = entries+len(s.entries), octets+s.bytes
		s.mu.Unlock()
	}
	return entries, octets
}
