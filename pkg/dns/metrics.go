package dns

import (
	"strconv"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Where answers come from, as metrics have it.
const (
	sourceCluster = "cluster"
	sourceCache   = "cache"
	sourceForward = "forward"
	sourceRefused = "refused"
)

type metrics struct {
	requests  *prometheus.CounterVec
	responses *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	dropped   *prometheus.CounterVec
	panics    prometheus.Counter
	tcpConns  prometheus.Gauge
	waiting   prometheus.Gauge
	listening *prometheus.GaugeVec
	held      prometheus.Gauge
	hot       hotMetrics
}

func newMetrics(r prometheus.Registerer) metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Name: "signpost_dns_" + name, Help: help}
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(opts(name, help)), labels)
	}
	m := metrics{
		requests:  counters("requests_total", "Requests that came.", "transport"),
		responses: counters("responses_total", "Responses, by response code and by where the answer came from.", "rcode", "source"),
		dropped:   counters("dropped_total", "What came and was not answered.", "reason"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "signpost_dns_request_duration_seconds",
			Help:    "Time from the arrival of a request until its response was ready to send.",
			Buckets: prometheus.ExponentialBuckets(0.000016, 4, 10),
		}, []string{"source"}),
		panics:    prometheus.NewCounter(prometheus.CounterOpts(opts("panics_total", "Requests that were lost to a fault in the server."))),
		tcpConns:  prometheus.NewGauge(prometheus.GaugeOpts(opts("tcp_connections", "TCP connections that are open."))),
		waiting:   prometheus.NewGauge(prometheus.GaugeOpts(opts("waiting_requests", "Requests that wait for an upstream resolver."))),
		held:      prometheus.NewGauge(prometheus.GaugeOpts(opts("held_names", "Names of Services that are held back because their rules are not in yet."))),
		listening: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("listening", "1 for each address that is listened on, 0 for one that should be.")), []string{"address"}),
	}
	m.hot = newHotMetrics(&m)
	r.MustRegister(m.requests, m.responses, m.dropped, m.duration, m.panics, m.tcpConns, m.waiting, m.listening, m.held)
	return m
}

func (m *metrics) answered(source string, rcode int, took time.Duration) {
	m.responses.WithLabelValues(rcodeText(rcode), source).Inc()
	m.duration.WithLabelValues(source).Observe(took.Seconds())
}

func rcodeText(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return strconv.Itoa(rcode)
}
