package forward

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const soa60 = "example.org. 300 IN SOA ns.example.org. host.example.org. 1 2 3 4 60"

func TestLifetimes(t *testing.T) {
	r := new(dns.Msg)
	r.SetQuestion("x.example.org.", dns.TypeA)
	for _, tt := range []struct {
		name  string
		rcode int
		texts []string
		want  time.Duration
	}{
		{"shortest record", dns.RcodeSuccess, []string{"x.example.org. 60 IN CNAME y.example.org.", "y.example.org. 7 IN A 192.0.2.1"}, 7 * time.Second},
		{"TTL 0", dns.RcodeSuccess, []string{"x.example.org. 0 IN A 192.0.2.1"}, 0},
		{"no longer than the limit", dns.RcodeSuccess, []string{"x.example.org. 864000 IN A 192.0.2.1"}, maxPositive},
		{"NXDOMAIN, by the SOA's minimum", dns.RcodeNameError, []string{soa60}, time.Minute},
		{"NODATA, by the SOA's TTL", dns.RcodeSuccess, []string{"example.org. 30 IN SOA ns.example.org. host.example.org. 1 2 3 4 60"}, 30 * time.Second},
		{"nothing, no longer than the limit", dns.RcodeNameError, []string{"example.org. 86400 IN SOA ns.example.org. host.example.org. 1 2 3 4 86400"}, maxNegative},
		{"alias of nothing", dns.RcodeSuccess, []string{"x.example.org. 600 IN CNAME y.example.org.", soa60}, time.Minute},
		{"NXDOMAIN without SOA", dns.RcodeNameError, nil, 0},
		{"NODATA without SOA", dns.RcodeSuccess, nil, 0},
		{"SERVFAIL", dns.RcodeServerFailure, nil, servfailFor},
		{"REFUSED", dns.RcodeRefused, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := lifetime(reply(t, r, tt.rcode, tt.texts...)); got != tt.want {
				t.Errorf("lifetime %v, want %v", got, tt.want)
			}
		})
	}
	cut := reply(t, r, dns.RcodeSuccess, "x.example.org. 60 IN A 192.0.2.1")
	cut.Truncated = true
	if got := lifetime(cut); got != 0 {
		t.Errorf("a truncated answer would be kept for %v", got)
	}
}

func TestCachedAnswersAge(t *testing.T) {
	c := newCache(1 << 20)
	q := Query{Name: "x.example.org.", Type: dns.TypeA}
	r := new(dns.Msg)
	r.SetQuestion(q.Name, q.Type)
	start := time.Unix(1000, 0)
	c.put(q, reply(t, r, dns.RcodeSuccess, "x.example.org. 60 IN A 192.0.2.1", "x.example.org. 90 IN A 192.0.2.2"), start)
	for _, tt := range []struct {
		after time.Duration
		ttls  []uint32
	}{{0, []uint32{60, 90}}, {1500 * time.Millisecond, []uint32{59, 89}}, {59 * time.Second, []uint32{1, 31}}, {time.Minute, nil}, {0, nil}} {
		m, ok := c.get(q, start.Add(tt.after))
		if ok != (tt.ttls != nil) {
			t.Fatalf("after %v: found %v", tt.after, ok)
		}
		for i, want := range tt.ttls {
			if got := m.Answer[i].Header().Ttl; got != want {
				t.Errorf("after %v: TTL %d, want %d", tt.after, got, want)
			}
		}
	}
}

func TestCacheIsBoundedAndForgetsTheLeastUsed(t *testing.T) {
	c := newCache(64 << 10)
	now := time.Unix(1000, 0)
	r := new(dns.Msg)
	put := func(i int) Query {
		q := Query{Name: fmt.Sprintf("n%d.example.org.", i), Type: dns.TypeA}
		r.SetQuestion(q.Name, q.Type)
		c.put(q, reply(t, r, dns.RcodeSuccess, q.Name+" 60 IN A 192.0.2.1"), now)
		return q
	}
	used := put(0)
	for i := range 1000 {
		put(i + 1)
		if _, ok := c.get(used, now); !ok {
			t.Fatalf("what is used all the time was forgotten after %d others", i)
		}
		if _, bytes := c.size(); bytes > c.maxBytes {
			t.Fatalf("%d bytes after %d answers", bytes, i)
		}
	}
	if n, _ := c.size(); n < 100 || n != c.recent.Len() {
		t.Errorf("%d entries, %d in the list", n, c.recent.Len())
	}
	if _, ok := c.get(Query{Name: "n1.example.org.", Type: dns.TypeA}, now); ok {
		t.Error("what was used least is still there")
	}
}

func TestOneAnswerDoesNotTakeTheWholeCache(t *testing.T) {
	c := newCache(16 << 10)
	q := Query{Name: "x.example.org.", Type: dns.TypeA}
	r := new(dns.Msg)
	r.SetQuestion(q.Name, q.Type)
	var texts []string
	for i := range 200 {
		texts = append(texts, fmt.Sprintf("x.example.org. 60 IN A 192.0.2.%d", i))
	}
	c.put(q, reply(t, r, dns.RcodeSuccess, texts...), time.Unix(1000, 0))
	if n, bytes := c.size(); n != 0 || bytes != 0 {
		t.Errorf("%d entries, %d bytes", n, bytes)
	}
}
