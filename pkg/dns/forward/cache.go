package forward

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxCacheBytes bounds the memory of the cache.
	maxCacheBytes = 8 << 20
	// shards have a lock each, for those who write. Readers take none.
	shards = 16
	// buckets of a shard: about one for each answer that there is room for.
	buckets = 1024
	// answerOverhead is what an answer costs beside its message, its offsets and
	// its name.
	answerOverhead = 256
	// maxStale is how long answers are of use after they have expired, while
	// nobody can be asked (RFC 8767 recommends one to three days).
	maxStale = 24 * time.Hour
	// staleRecheck is how long an expired answer is served without asking again,
	// after that was in vain (RFC 8767 section 5).
	staleRecheck = 30 * time.Second
	// prefetchHits is how often an answer must have been of use for it to be
	// renewed before it expires, when less than prefetchPart of its life is left.
	prefetchHits = 3
	prefetchPart = 10
)

// cache keeps answers until newer ones need the room. Which go is decided by the
// SIEVE method: the hand goes from old to new and takes what was not used since
// it came by, so a flood of names that are asked once does not drive out those
// that are in use. It may be used from any goroutine; get takes no lock.
type cache struct {
	seed     maphash.Seed
	maxBytes int // of one shard
	misses   atomic.Uint64
	shards   [shards]shard
}

type shard struct {
	buckets [buckets]atomic.Pointer[Answer]
	// The counters are the shard's, or all cores would have to share them.
	hits  [kinds]atomic.Uint64
	stale atomic.Uint64

	mu             sync.Mutex
	oldest, newest *Answer
	hand           *Answer
	bytes          int
	entries        [kinds]int
	evictions      [kinds]uint64
}

func newCache(maxBytes int) *cache {
	return &cache{seed: maphash.MakeSeed(), maxBytes: maxBytes / shards}
}

// hash mixes what sets keys apart. The seed is random, so nobody can choose
// names that fall into one bucket.
func hash[T []byte | string](seed maphash.Seed, name T, qtype uint16, flags Flags) uint64 {
	var h uint64
	switch n := any(name).(type) {
	case []byte:
		h = maphash.Bytes(seed, n)
	case string:
		h = maphash.String(seed, n)
	}
	h ^= (uint64(qtype)<<8 | uint64(flags)) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}

func (a *Answer) cost() int {
	return answerOverhead + len(a.wire) + 2*len(a.ttls) + len(a.key.name)
}

func (c *cache) shardOf(h uint64) *shard { return &c.shards[h%shards] }

func (s *shard) bucketOf(h uint64) *atomic.Pointer[Answer] { return &s.buckets[h/shards%buckets] }

// find returns what is kept for a question, however old it is.
func (c *cache) find(name []byte, qtype uint16, flags Flags) *Answer {
	h := hash(c.seed, name, qtype, flags)
	for a := c.shardOf(h).bucketOf(h).Load(); a != nil; a = a.next.Load() {
		if a.hash == h && a.key.qtype == qtype && a.key.flags == flags && a.key.name == string(name) {
			return a
		}
	}
	return nil
}

// state is of what use an answer is.
type state uint8

const (
	gone    state = iota // none any more
	expired              // only if nobody can be asked
	pending              // as long as nobody can be asked, as was found lately
	due                  // the same, and it is time to ask again
	fresh
)

// stateAt returns of what use a is at now.
func (a *Answer) stateAt(now time.Time) state {
	age := now.Sub(a.stored)
	switch {
	case age < a.life:
		return fresh
	case a.kind == failure || age >= a.life+maxStale:
		return gone
	}
	switch after := time.Duration(a.retryAfter.Load()); {
	case after == 0:
		return expired
	case age < after:
		return pending
	default:
		return due
	}
}

// used notes a hit, and reports whether it is time to renew a.
func (c *cache) used(a *Answer, s state, now time.Time) (renew bool) {
	sh := c.shardOf(a.hash)
	sh.hits[a.kind].Add(1)
	if !a.visited.Load() {
		a.visited.Store(true)
	}
	hits := a.hits.Load()
	if hits < prefetchHits {
		hits = a.hits.Add(1)
	}
	switch s {
	case fresh:
		if a.kind != positive || hits < prefetchHits || a.retryAfter.Load() != 0 || a.life-now.Sub(a.stored) > a.life/prefetchPart {
			return false
		}
	case due:
		c.countStale(a)
	default:
		c.countStale(a)
		return false
	}
	return !a.refreshing.Load() && a.refreshing.CompareAndSwap(false, true)
}

// countStale counts an answer that was served although it had expired.
func (c *cache) countStale(a *Answer) { c.shardOf(a.hash).stale.Add(1) }

// put keeps a, if it may be kept, in the place of what was there.
func (c *cache) put(a *Answer) {
	a.hash = hash(c.seed, a.key.name, a.key.qtype, a.key.flags)
	s := c.shardOf(a.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.lookup(a); old != nil {
		a.visited.Store(old.visited.Load())
		s.remove(old)
	}
	if a.life <= 0 || a.cost() > c.maxBytes/4 {
		return
	}
	s.insert(a)
	for s.bytes > c.maxBytes {
		s.evict()
	}
}

// fail notes that nobody had an answer: what is there may be served on, although
// it has expired, or else a, a failure, is kept.
func (c *cache) fail(a *Answer, now time.Time) {
	a.hash = hash(c.seed, a.key.name, a.key.qtype, a.key.flags)
	s := c.shardOf(a.hash)
	s.mu.Lock()
	old := s.lookup(a)
	s.mu.Unlock()
	if old == nil || old.stateAt(now) == gone {
		c.put(a)
		return
	}
	if old.kind != failure {
		old.retryAfter.Store(int64(now.Sub(old.stored) + staleRecheck))
	}
}

func (s *shard) lookup(a *Answer) *Answer {
	for b := s.bucketOf(a.hash).Load(); b != nil; b = b.next.Load() {
		if b.hash == a.hash && b.key == a.key {
			return b
		}
	}
	return nil
}

// insert puts a in front of its bucket: readers see all of it or nothing.
func (s *shard) insert(a *Answer) {
	bucket := s.bucketOf(a.hash)
	a.next.Store(bucket.Load())
	bucket.Store(a)
	a.older = s.newest
	if s.newest != nil {
		s.newest.newer = a
	} else {
		s.oldest = a
	}
	s.newest = a
	s.bytes += a.cost()
	s.entries[a.kind]++
}

// remove takes a out. A reader that stands on it still finds its way on.
func (s *shard) remove(a *Answer) {
	link := s.bucketOf(a.hash)
	for b := link.Load(); b != a; b = link.Load() {
		link = &b.next
	}
	link.Store(a.next.Load())
	if s.hand == a {
		s.hand = a.newer
	}
	if a.older != nil {
		a.older.newer = a.newer
	} else {
		s.oldest = a.newer
	}
	if a.newer != nil {
		a.newer.older = a.older
	} else {
		s.newest = a.older
	}
	a.older, a.newer = nil, nil
	s.bytes -= a.cost()
	s.entries[a.kind]--
}

// evict removes the first answer from the hand on that was not used since the
// hand was there.
func (s *shard) evict() {
	a := s.hand
	if a == nil {
		a = s.oldest
	}
	for a.visited.Load() {
		a.visited.Store(false)
		if a = a.newer; a == nil {
			a = s.oldest
		}
	}
	s.hand = a
	s.evictions[a.kind]++
	s.remove(a)
}

// sizes are what a cache holds and what it did.
type sizes struct {
	bytes     int
	entries   [kinds]int
	hits      [kinds]uint64
	evictions [kinds]uint64
	misses    uint64
	stale     uint64
}

func (c *cache) sizes() (out sizes) {
	out.misses = c.misses.Load()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		out.bytes += s.bytes
		for k := range kinds {
			out.entries[k] += s.entries[k]
			out.evictions[k] += s.evictions[k]
			out.hits[k] += s.hits[k].Load()
		}
		s.mu.Unlock()
		out.stale += s.stale.Load()
	}
	return out
}
