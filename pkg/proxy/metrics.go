package proxy

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// metrics have kube-proxy's names where they mean what kube-proxy's mean.
type metrics struct {
	duration, full, partial *prometheus.HistogramVec
	last                    *prometheus.GaugeVec
	rules, written          *prometheus.GaugeVec
	failures, partialFail   *prometheus.CounterVec
	quarantined             *prometheus.GaugeVec
	repairs                 *prometheus.CounterVec
	programmed              prometheus.Gauge
}

// familyMetrics are the metrics of one family.
type familyMetrics struct {
	all                              *metrics
	family                           string
	restoreFailures, partialFailures prometheus.Counter
	repairs                          prometheus.Counter
	quarantined                      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	histogram := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"ip_family"})
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, append(labels, "ip_family"))
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"ip_family"})
	}
	m := &metrics{
		duration:    histogram("kubeproxy_sync_proxy_rules_duration_seconds", "Time that a write of rules took, from change to commit."),
		full:        histogram("kubeproxy_sync_full_proxy_rules_duration_seconds", "Time that a write of all rules took."),
		partial:     histogram("kubeproxy_sync_partial_proxy_rules_duration_seconds", "Time that a write of changed rules took."),
		last:        gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When rules were last written."),
		rules:       gauge("kubeproxy_sync_proxy_rules_iptables_total", "Number of rules in the node's tables that are Signpost's.", "table"),
		written:     gauge("kubeproxy_sync_proxy_rules_iptables_last", "Number of rules in the last write.", "table"),
		failures:    counter("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "Number of failed writes."),
		partialFail: counter("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", "Number of refused writes of changed rules."),
		quarantined: gauge("signpost_proxy_quarantined_services", "Number of Services that keep their last rules because newer ones are refused."),
		repairs:     counter("signpost_proxy_repairs_total", "Number of times that rules were found damaged, and mended."),
		programmed:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "signpost_proxy_programmed_generation", Help: "Generation of the last snapshot whose rules are in."}),
	}
	for _, c := range []prometheus.Collector{
		m.duration, m.full, m.partial, m.last, m.rules, m.written, m.failures, m.partialFail, m.quarantined, m.repairs, m.programmed,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) of(f ruleset.Family) *familyMetrics {
	name := f.String()
	return &familyMetrics{
		all: m, family: name,
		restoreFailures: m.failures.WithLabelValues(name), partialFailures: m.partialFail.WithLabelValues(name),
		repairs: m.repairs.WithLabelValues(name), quarantined: m.quarantined.WithLabelValues(name),
	}
}

// synced notes a write that has succeeded, splitting included.
func (m *familyMetrics) synced(set *ruleset.Set, full bool, took time.Duration) {
	kind := m.all.partial
	if full {
		kind = m.all.full
	}
	kind.WithLabelValues(m.family).Observe(took.Seconds())
	m.all.duration.WithLabelValues(m.family).Observe(took.Seconds())
	m.all.last.WithLabelValues(m.family).SetToCurrentTime()
	for _, t := range ruleset.Tables() {
		m.all.rules.WithLabelValues(string(t), m.family).Set(float64(set.Rules(t)))
	}
}

// wrote notes what a restore contained.
func (m *familyMetrics) wrote(c ruleset.Change) {
	rules := map[ruleset.Table]int{}
	for _, chain := range c.Write {
		rules[chain.Table] += len(chain.Rules)
	}
	for _, t := range ruleset.Tables() {
		m.all.written.WithLabelValues(string(t), m.family).Set(float64(rules[t]))
	}
}

func (m *familyMetrics) refused(full bool) {
	if !full {
		m.partialFailures.Inc()
	}
}
