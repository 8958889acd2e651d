package forward

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const soa60 = "example.org. 300 IN SOA ns.example.org. host.example.org. 1 2 3 4 60"

// answerFrom makes the Answer that an upstream's records become.
func answerFrom(tb testing.TB, q Query, now time.Time, rcode int, texts ...string) *Answer {
	tb.Helper()
	k, _, err := q.key()
	if err != nil {
		tb.Fatal(err)
	}
	r := new(dns.Msg)
	r.SetQuestion(q.Name, q.Type)
	a, err := answerOf(reply(tb, r, rcode, texts...), k, now)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func (c *cache) findQuery(q Query) *Answer {
	k, _, _ := q.key()
	return c.find([]byte(k.name), k.qtype, k.flags)
}

func TestLifetimes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rcode int
		texts []string
		kind  kind
		want  time.Duration
	}{
		{"shortest record", dns.RcodeSuccess, []string{"x.example.org. 60 IN CNAME y.example.org.", "y.example.org. 7 IN A 192.0.2.1"}, positive, 7 * time.Second},
		{"TTL 0", dns.RcodeSuccess, []string{"x.example.org. 0 IN A 192.0.2.1"}, positive, 0},
		{"TTL with the highest bit", dns.RcodeSuccess, []string{"x.example.org. 2147483648 IN A 192.0.2.1"}, positive, 0},
		{"no longer than the limit", dns.RcodeSuccess, []string{"x.example.org. 864000 IN A 192.0.2.1"}, positive, maxPositive},
		{"NXDOMAIN, by the SOA's minimum", dns.RcodeNameError, []string{"example.org. 300 IN SOA ns.example.org. host.example.org. 1 2 3 4 20"}, denial, 20 * time.Second},
		{"NODATA, by the SOA's TTL", dns.RcodeSuccess, []string{"example.org. 15 IN SOA ns.example.org. host.example.org. 1 2 3 4 60"}, denial, 15 * time.Second},
		{"nothing, no longer than the limit", dns.RcodeNameError, []string{"example.org. 86400 IN SOA ns.example.org. host.example.org. 1 2 3 4 86400"}, denial, maxNegative},
		{"alias of nothing", dns.RcodeSuccess, []string{"x.example.org. 600 IN CNAME y.example.org.", soa60}, positive, maxNegative},
		{"NXDOMAIN without SOA", dns.RcodeNameError, nil, denial, 0},
		{"NXDOMAIN, SOA of another zone", dns.RcodeNameError, []string{"example.net. 300 IN SOA ns.example.org. host.example.org. 1 2 3 4 60"}, denial, 0},
		{"NODATA without SOA", dns.RcodeSuccess, nil, denial, 0},
		{"SERVFAIL", dns.RcodeServerFailure, nil, failure, servfailFor},
		{"REFUSED", dns.RcodeRefused, nil, failure, servfailFor},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := answerFrom(t, Query{Name: "x.example.org.", Type: dns.TypeA}, time.Unix(1000, 0), tt.rcode, tt.texts...)
			if a.life != tt.want || a.kind != tt.kind {
				t.Errorf("kind %d, life %v; want %d, %v", a.kind, a.life, tt.kind, tt.want)
			}
		})
	}
}

func TestCachedAnswersAge(t *testing.T) {
	q := Query{Name: "x.example.org.", Type: dns.TypeA}
	start := time.Unix(1000, 0)
	a := answerFrom(t, q, start, dns.RcodeSuccess, "x.example.org. 60 IN A 192.0.2.1", "x.example.org. 90 IN A 192.0.2.2")
	for _, tt := range []struct {
		after time.Duration
		state state
		ttls  [2]uint32
	}{
		{0, fresh, [2]uint32{60, 90}},
		{1500 * time.Millisecond, fresh, [2]uint32{59, 89}},
		{59 * time.Second, fresh, [2]uint32{1, 31}},
		{time.Minute, expired, [2]uint32{staleTTL, staleTTL}},
		{time.Minute + maxStale, gone, [2]uint32{staleTTL, staleTTL}},
	} {
		now := start.Add(tt.after)
		m := new(dns.Msg)
		if err := m.Unpack(a.Append(nil, now)); err != nil {
			t.Fatal(err)
		}
		if s := a.stateAt(now); s != tt.state {
			t.Errorf("after %v: state %d, want %d", tt.after, s, tt.state)
		}
		for i, want := range tt.ttls {
			if got := m.Answer[i].Header().Ttl; got != want {
				t.Errorf("after %v: TTL %d, want %d", tt.after, got, want)
			}
		}
	}
}

func TestCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	c := newCache(shards * 64 << 10)
	now := time.Unix(1000, 0)
	put := func(i int) Query {
		q := Query{Name: fmt.Sprintf("n%d.example.org.", i), Type: dns.TypeA}
		c.put(answerFrom(t, q, now, dns.RcodeSuccess, q.Name+" 60 IN A 192.0.2.1"))
		return q
	}
	use := func(q Query) bool {
		a := c.findQuery(q)
		if a != nil {
			c.used(a, a.stateAt(now), now)
		}
		return a != nil
	}
	used := put(0)
	for i := range 10000 {
		if put(i + 1); !use(used) {
			t.Fatalf("what is used all the time was forgotten after %d others", i)
		}
		if n := c.sizes().bytes; n > shards*c.maxBytes {
			t.Fatalf("%d bytes after %d answers", n, i)
		}
	}
	s := c.sizes()
	if s.entries[positive] < 1000 || s.evictions[positive] != uint64(10001-s.entries[positive]) {
		t.Errorf("%d entries, %d evictions", s.entries[positive], s.evictions[positive])
	}
	if use(Query{Name: "n1.example.org.", Type: dns.TypeA}) {
		t.Error("what is oldest and not used is still there")
	}
	walked := 0
	for i := range c.shards {
		for a := c.shards[i].oldest; a != nil; a = a.newer {
			walked++
		}
	}
	if walked != s.entries[positive] {
		t.Errorf("%d answers in the lists, %d counted", walked, s.entries[positive])
	}
}

// TestFloodOfLargeAnswersSparesWhatIsInUse is the CacheFlush attack: names whose
// answers are as large as can be push everything else out.
func TestFloodOfLargeAnswersSparesWhatIsInUse(t *testing.T) {
	c := newCache(maxCacheBytes)
	now := time.Unix(1000, 0)
	var popular []Query
	for i := range 200 {
		q := Query{Name: fmt.Sprintf("p%d.example.org.", i), Type: dns.TypeA}
		popular = append(popular, q)
		c.put(answerFrom(t, q, now, dns.RcodeSuccess, q.Name+" 60 IN A 192.0.2.1"))
	}
	var texts []string
	for i := range 400 {
		texts = append(texts, fmt.Sprintf("big.example.org. 60 IN TXT %q", strings.Repeat("x", 100)+fmt.Sprint(i)))
	}
	big := answerFrom(t, Query{Name: "big.example.org.", Type: dns.TypeTXT}, now, dns.RcodeSuccess, texts...)
	for i := range 2000 {
		k, _, _ := Query{Name: fmt.Sprintf("f%d.evil.example.", i), Type: dns.TypeTXT}.key()
		c.put(&Answer{key: k, wire: big.wire, ttls: big.ttls, kind: positive, stored: now, life: time.Minute})
		for _, q := range popular {
			a := c.findQuery(q)
			if a == nil {
				t.Fatalf("%s was pushed out by %d large answers", q.Name, i)
			}
			c.used(a, fresh, now)
		}
	}
	if n := c.sizes().bytes; n > maxCacheBytes {
		t.Errorf("%d bytes", n)
	}
}

func TestOneAnswerDoesNotTakeAShard(t *testing.T) {
	c := newCache(shards * 16 << 10)
	q := Query{Name: "x.example.org.", Type: dns.TypeA}
	var texts []string
	for i := range 250 {
		texts = append(texts, fmt.Sprintf("x.example.org. 60 IN A 192.0.2.%d", i))
	}
	c.put(answerFrom(t, q, time.Unix(1000, 0), dns.RcodeSuccess, texts...))
	if s := c.sizes(); s.entries[positive] != 0 || s.bytes != 0 {
		t.Errorf("%d entries, %d bytes", s.entries[positive], s.bytes)
	}
}

// TestCacheCountsItsMemory fills the cache and compares what it believes to hold
// with what the heap grew by.
func TestCacheCountsItsMemory(t *testing.T) {
	heap := func() int {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int(stats.HeapAlloc)
	}
	now := time.Unix(1000, 0)
	before := heap()
	c := newCache(maxCacheBytes)
	for i := range 60000 {
		q := Query{Name: fmt.Sprintf("host-%d.department.example.org.", i), Type: dns.TypeA}
		c.put(answerFrom(t, q, now, dns.RcodeSuccess, q.Name+" 60 IN A 192.0.2.1", q.Name+" 60 IN A 192.0.2.2"))
	}
	grown, counted := heap()-before, c.sizes().bytes
	if counted < maxCacheBytes*9/10 || counted > maxCacheBytes || grown > maxCacheBytes*5/4 {
		t.Errorf("counts %d bytes, the heap grew by %d, the limit is %d", counted, grown, maxCacheBytes)
	}
	t.Logf("%d answers, %d bytes counted, %d on the heap", c.sizes().entries[positive], counted, grown)
	runtime.KeepAlive(c)
}

// TestReadersNeedNoLock has readers walk through buckets that change under them;
// the race detector is the judge, and that what is always there is always found.
func TestReadersNeedNoLock(t *testing.T) {
	c := newCache(shards * 8 << 10)
	now := time.Unix(1000, 0)
	always := Query{Name: "always.example.org.", Type: dns.TypeA}
	c.put(answerFrom(t, always, now, dns.RcodeSuccess, "always.example.org. 60 IN A 192.0.2.1"))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				a := c.findQuery(always)
				if a == nil {
					t.Error("what is used all the time is not found")
					return
				}
				c.used(a, fresh, now)
				a.Append(nil, now)
			}
		})
	}
	for i := range 5000 {
		q := Query{Name: fmt.Sprintf("n%d.example.org.", i%700), Type: dns.TypeA}
		c.put(answerFrom(t, q, now, dns.RcodeSuccess, q.Name+" 60 IN A 192.0.2.1"))
		if i%50 == 0 {
			if a := c.findQuery(always); a != nil {
				c.used(a, fresh, now)
			}
		}
	}
	close(done)
	wg.Wait()
}

func BenchmarkCachedWire(b *testing.B) {
	f := newForwarder(b, nil)
	now := time.Now()
	var names [][]byte
	for i := range 1000 {
		q := Query{Name: fmt.Sprintf("host-%d.example.org.", i), Type: dns.TypeA, RecursionDesired: true}
		f.cache.put(answerFrom(b, q, now, dns.RcodeSuccess, q.Name+" 3600 IN A 192.0.2.1"))
		k, _, _ := q.key()
		names = append(names, []byte(k.name))
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		out := make([]byte, 0, 1232)
		for i := 0; pb.Next(); i++ {
			a, ok := f.CachedWire(names[i%len(names)], dns.TypeA, RecursionDesired, now)
			if !ok {
				b.Error("not found")
				return
			}
			out = a.Append(out[:0], now)
		}
	})
}

func TestHitAllocatesNothing(t *testing.T) {
	f := newForwarder(t, nil)
	now := time.Now()
	q := Query{Name: "www.example.org.", Type: dns.TypeA, RecursionDesired: true}
	f.cache.put(answerFrom(t, q, now, dns.RcodeSuccess, "www.example.org. 3600 IN A 192.0.2.1"))
	k, _, _ := q.key()
	name, out := []byte(k.name), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() {
		a, ok := f.CachedWire(name, dns.TypeA, RecursionDesired, now)
		if !ok {
			t.Fatal("not found")
		}
		out = a.Append(out[:0], now)
	}); n != 0 {
		t.Errorf("%v allocations for a hit", n)
	}
}
