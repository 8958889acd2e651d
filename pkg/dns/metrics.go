package dns

import (
	"strconv"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// Where answers come from: the plugin that they would come from in CoreDNS.
const (
	sourceCluster = "kubernetes"
	sourceCache   = "cache"
	sourceForward = "forward"
	sourceRefused = ""
)

// metrics have CoreDNS's names where they mean the same.
type metrics struct {
	requests    *prometheus.CounterVec
	do          *prometheus.CounterVec
	responses   *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	requestSize *prometheus.HistogramVec
	replySize   *prometheus.HistogramVec
	programming *prometheus.HistogramVec
	panics      prometheus.Counter

	dropped   *prometheus.CounterVec
	overShare prometheus.Counter
	tcpConns  prometheus.Gauge
	waiting   prometheus.Gauge
	listening *prometheus.GaugeVec
	held      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	coreDNS := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "coredns_dns_" + name, Help: help}, append([]string{"server", "zone", "view"}, labels...))
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "coredns_dns_" + name, Help: help, Buckets: buckets}, append([]string{"server", "zone", "view"}, labels...))
	}
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Name: "signpost_dns_" + name, Help: help}
	}
	m := &metrics{
		requests:    coreDNS("requests_total", "Requests that were answered, by transport, family and type.", "proto", "family", "type"),
		do:          coreDNS("do_requests_total", "Requests that had the DO bit set."),
		responses:   coreDNS("responses_total", "Responses, by response code and by where the answer came from.", "rcode", "plugin"),
		duration:    histogram("request_duration_seconds", "Time from when a request was read until its response was ready to send.", durations()),
		requestSize: histogram("request_size_bytes", "Length of requests.", sizes(), "proto"),
		replySize:   histogram("response_size_bytes", "Length of responses.", sizes(), "proto"),
		programming: newProgramming(),
		panics:      prometheus.NewCounter(prometheus.CounterOpts{Name: "coredns_panics_total", Help: "Requests that were lost to a fault in the server."}),

		dropped:   prometheus.NewCounterVec(prometheus.CounterOpts(opts("dropped_total", "What came and was not answered.")), []string{"reason"}),
		tcpConns:  prometheus.NewGauge(prometheus.GaugeOpts(opts("tcp_connections", "TCP connections that are open."))),
		waiting:   prometheus.NewGauge(prometheus.GaugeOpts(opts("waiting_requests", "Requests that wait for an upstream resolver."))),
		held:      prometheus.NewGauge(prometheus.GaugeOpts(opts("held_names", "Names of Services that are held back because their rules are not in yet."))),
		listening: prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("listening", "1 for each address that is listened on, 0 for one that should be.")), []string{"address"}),
	}
	m.overShare = m.dropped.WithLabelValues("over its share")
	r.MustRegister(m.requests, m.do, m.responses, m.duration, m.requestSize, m.replySize, m.programming, m.panics, m.dropped, m.tcpConns, m.waiting, m.listening, m.held)
	return m
}

// durations are CoreDNS's buckets, in seconds, and some below the first of them, where most
// answers are.
func durations() []float64 {
	return append([]float64{0.000004, 0.000016, 0.000064}, prometheus.ExponentialBuckets(0.00025, 2, 16)...)
}

// sizes are CoreDNS's buckets, in octets.
func sizes() []float64 {
	return []float64{0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3}
}

func rcodeText(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return strconv.Itoa(rcode)
}
