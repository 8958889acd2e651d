package forward

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	cacheHits   prometheus.Counter
	cacheMisses prometheus.Counter
	coalesced   prometheus.Counter
	ignored     prometheus.Counter
}

func newMetrics(r prometheus.Registerer, c *cache) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "signpost_dns_" + name, Help: help})
	}
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_dns_forward_requests_total",
			Help: "Questions sent to an upstream resolver, by the response code, or \"error\" if there was no response.",
		}, []string{"upstream", "rcode"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "signpost_dns_forward_duration_seconds",
			Help:    "Time until an upstream resolver answered, or was given up.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 15),
		}, []string{"upstream"}),
		cacheHits:   counter("cache_hits_total", "Questions about other names than the cluster's that were answered from the cache."),
		cacheMisses: counter("cache_misses_total", "Questions about other names than the cluster's that had to be asked."),
		coalesced:   counter("forward_coalesced_total", "Questions that waited for an equal one that was under way."),
		ignored:     counter("forward_ignored_datagrams_total", "Datagrams that came to a socket that waits for an upstream, but were not the answer: late ones or forgeries."),
	}
	r.MustRegister(m.requests, m.duration, m.cacheHits, m.cacheMisses, m.coalesced, m.ignored,
		gauge("cache_entries", "Answers in the cache.", func() float64 { n, _ := c.size(); return float64(n) }),
		gauge("cache_bytes", "Estimated memory of the answers in the cache.", func() float64 { _, n := c.size(); return float64(n) }),
	)
	return m
}

func gauge(name, help string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "signpost_dns_" + name, Help: help}, value)
}

func (m *metrics) observe(addr netip.AddrPort, response *dns.Msg, err error, took time.Duration) {
	rcode := "error"
	if err == nil {
		rcode = dns.RcodeToString[response.Rcode]
	}
	m.requests.WithLabelValues(addr.String(), rcode).Inc()
	m.duration.WithLabelValues(addr.String()).Observe(took.Seconds())
}
