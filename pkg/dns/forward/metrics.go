package forward

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics have CoreDNS's names where they mean the same. Its labels server, zones
// and view are there for its dashboards; this cache has one value of each.
type metrics struct {
	duration   *prometheus.HistogramVec
	failures   *prometheus.CounterVec
	looping    *prometheus.GaugeVec
	rejects    prometheus.Counter
	broken     prometheus.Counter
	prefetches prometheus.Counter
	drops      prometheus.Counter
	coalesced  prometheus.Counter
	ignored    prometheus.Counter
	panics     prometheus.Counter
}

func cacheLabels() prometheus.Labels {
	return prometheus.Labels{"server": "dns://:53", "zones": ".", "view": ""}
}

func newMetrics(r prometheus.Registerer, c *cache) metrics {
	counter := func(name, help string, labels prometheus.Labels) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:        "coredns_proxy_request_duration_seconds",
			Help:        "Histogram of the time each request took.",
			Buckets:     prometheus.ExponentialBuckets(0.00025, 2, 16),
			ConstLabels: prometheus.Labels{"proxy_name": "forward"},
		}, []string{"to", "rcode"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_dns_forward_failures_total",
			Help: "Questions sent to an upstream resolver that had no answer.",
		}, []string{"to"}),
		looping: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signpost_dns_forward_looping",
			Help: "1 for an upstream resolver that leads back to this server for names in the zone, and is left out.",
		}, []string{"to", "zone"}),
		rejects:    counter("coredns_forward_max_concurrent_rejects_total", "Counter of the number of queries rejected because the concurrent queries were at maximum.", nil),
		broken:     counter("coredns_forward_healthcheck_broken_total", "Counter of the number of complete failures of the healthchecks: questions for which no upstream resolver was thought to be alive.", nil),
		prefetches: counter("coredns_cache_prefetch_total", "The number of times the cache has prefetched a cached item.", cacheLabels()),
		drops:      counter("coredns_cache_drops_total", "The number responses that are not cached, because the reply is malformed.", cacheLabels()),
		coalesced:  counter("signpost_dns_forward_coalesced_total", "Questions that waited for an equal one that was under way.", nil),
		ignored:    counter("signpost_dns_forward_ignored_datagrams_total", "Datagrams that came to a socket that waits for an upstream, but were not the answer: late ones or forgeries.", nil),
		panics:     counter("signpost_dns_forward_panics_total", "Searches for an answer that were lost to a fault in the server.", nil),
	}
	r.MustRegister(m.duration, m.failures, m.looping, m.rejects, m.broken, m.prefetches, m.drops, m.coalesced, m.ignored, m.panics,
		newCacheCollector(c))
	return m
}

func (m *metrics) answered(addr netip.AddrPort, rcode int, took time.Duration) {
	m.duration.WithLabelValues(addr.String(), dns.RcodeToString[rcode]).Observe(took.Seconds())
}

func (m *metrics) failed(addr netip.AddrPort) { m.failures.WithLabelValues(addr.String()).Inc() }

// cacheCollector reads what the cache counts by itself, so that a hit costs
// neither lock nor label.
type cacheCollector struct {
	cache *cache

	entries, requests, hits, misses, stale, evictions, inUse *prometheus.Desc
}

func newCacheCollector(c *cache) *cacheCollector {
	desc := func(name, help string, variable ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, variable, cacheLabels())
	}
	return &cacheCollector{
		cache:     c,
		entries:   desc("coredns_cache_entries", "The number of elements in the cache.", "type"),
		requests:  desc("coredns_cache_requests_total", "The count of cache requests."),
		hits:      desc("coredns_cache_hits_total", "The count of cache hits.", "type"),
		misses:    desc("coredns_cache_misses_total", "The count of cache misses. Deprecated, derive misses from cache hits/requests counters."),
		stale:     desc("coredns_cache_served_stale_total", "The number of requests served from stale cache entries."),
		evictions: desc("coredns_cache_evictions_total", "The count of cache evictions.", "type"),
		inUse:     prometheus.NewDesc("signpost_dns_cache_bytes", "Estimated memory of the answers in the cache.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *cacheCollector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// Collect implements prometheus.Collector.
func (c *cacheCollector) Collect(out chan<- prometheus.Metric) {
	s := c.cache.sizes()
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	// CoreDNS has no type of its own for failures: they are denials there.
	gauge(c.entries, s.entries[positive], "success")
	gauge(c.entries, s.entries[denial]+s.entries[failure], "denial")
	counter(c.hits, s.hits[positive], "success")
	counter(c.hits, s.hits[denial]+s.hits[failure], "denial")
	counter(c.evictions, s.evictions[positive], "success")
	counter(c.evictions, s.evictions[denial]+s.evictions[failure], "denial")
	counter(c.requests, s.hits[positive]+s.hits[denial]+s.hits[failure]+s.misses)
	counter(c.misses, s.misses)
	counter(c.stale, s.stale)
	gauge(c.inUse, s.bytes)
}
