package forward

import (
	"container/list"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// Answers are kept no longer than this, whatever their TTL says.
	maxPositive = time.Hour
	maxNegative = 30 * time.Minute
	// servfailFor is how long an upstream's SERVFAIL is passed on without asking
	// again (RFC 2308 section 7 allows five minutes).
	servfailFor = 5 * time.Second
	// entryOverhead is an estimate of what an entry costs beside its text.
	entryOverhead = 256
)

// cache keeps answers, in wire format because that is the smallest, until they
// expire or newer ones need the room; the least recently used goes first. It may
// be used from any goroutine.
type cache struct {
	maxBytes int

	mu      sync.Mutex
	entries map[Query]*list.Element
	recent  *list.List // of *entry, the most recently used in front
	bytes   int
}

type entry struct {
	q       Query
	wire    []byte
	stored  time.Time
	expires time.Time
}

func (e *entry) cost() int { return len(e.wire) + len(e.q.Name) + entryOverhead }

func newCache(maxBytes int) *cache {
	return &cache{maxBytes: maxBytes, entries: map[Query]*list.Element{}, recent: list.New()}
}

// get returns the answer to q with what is left of its TTLs.
func (c *cache) get(q Query, now time.Time) (*dns.Msg, bool) {
	e, ok := c.find(q, now)
	if !ok {
		return nil, false
	}
	m := new(dns.Msg)
	if m.Unpack(e.wire) != nil {
		return nil, false
	}
	age := uint32(now.Sub(e.stored) / time.Second)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			h := rr.Header()
			h.Ttl -= min(age, h.Ttl)
		}
	}
	return m, true
}

func (c *cache) find(q Query, now time.Time) (*entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.entries[q]
	if !ok {
		return nil, false
	}
	e := element.Value.(*entry)
	if !now.Before(e.expires) {
		c.remove(element)
		return nil, false
	}
	c.recent.MoveToFront(element)
	return e, true
}

// put keeps m as the answer to q, if it may be kept.
func (c *cache) put(q Query, m *dns.Msg, now time.Time) {
	keep := lifetime(m)
	if keep <= 0 {
		return
	}
	packed := *m
	packed.Compress = true
	wire, err := packed.Pack()
	if err != nil {
		return
	}
	e := &entry{q: q, wire: wire, stored: now, expires: now.Add(keep)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.entries[q]; ok {
		c.remove(old)
	}
	if e.cost() > c.maxBytes/16 {
		return
	}
	c.entries[q] = c.recent.PushFront(e)
	c.bytes += e.cost()
	for c.bytes > c.maxBytes {
		c.remove(c.recent.Back())
	}
}

func (c *cache) remove(element *list.Element) {
	e := c.recent.Remove(element).(*entry)
	delete(c.entries, e.q)
	c.bytes -= e.cost()
}

// size returns the number of entries and their estimated bytes.
func (c *cache) size() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries), c.bytes
}

// lifetime is how long m may be kept: as long as the shortest-lived of its
// records, and an answer that there is nothing no longer than its SOA record says
// (RFC 2308), not at all without one.
func lifetime(m *dns.Msg) time.Duration {
	switch {
	case m.Truncated:
		return 0
	case m.Rcode == dns.RcodeServerFailure:
		return servfailFor
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return 0
	}
	seconds := uint32(maxPositive / time.Second)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			seconds = min(seconds, rr.Header().Ttl)
		}
	}
	if soa := soaOf(m); soa != nil {
		seconds = min(seconds, soa.Minttl, uint32(maxNegative/time.Second))
	} else if m.Rcode == dns.RcodeNameError || len(m.Answer) == 0 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// soaOf returns the record that marks m as saying that there is nothing, at the
// name itself or at the end of a chain of aliases.
func soaOf(m *dns.Msg) *dns.SOA {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa
		}
	}
	return nil
}
