package conntrack

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// metrics have kube-proxy's names where they mean what kube-proxy's mean.
type metrics struct {
	duration          *prometheus.HistogramVec
	deleted, failures *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kubeproxy_conntrack_reconciler_sync_duration_seconds", Help: "Time that looking for stale flows took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"ip_family"}),
		deleted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubeproxy_conntrack_reconciler_deleted_entries_total", Help: "Number of stale flows that were cut.",
		}, []string{"ip_family"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_conntrack_failures_total", Help: "Number of times that stale flows could not be looked for or cut.",
		}, []string{"ip_family"}),
	}
	for _, c := range []prometheus.Collector{m.duration, m.deleted, m.failures} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("conntrack: %w", err)
		}
	}
	return m, nil
}

// familyMetrics are the metrics of one family.
type familyMetrics struct {
	duration          prometheus.Observer
	deleted, failures prometheus.Counter
}

func (m *metrics) of(f ruleset.Family) *familyMetrics {
	name := f.String()
	return &familyMetrics{m.duration.WithLabelValues(name), m.deleted.WithLabelValues(name), m.failures.WithLabelValues(name)}
}
