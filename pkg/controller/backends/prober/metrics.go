package prober

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
)

type metrics struct {
	checks *prometheus.CounterVec
	took   *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, count func() map[verdict.State]int) (*metrics, error) {
	m := &metrics{
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_backend_checks_total",
			Help: "Checks of external backends by this node, by kind and result; unknown are those that this node could not do.",
		}, []string{"kind", "result"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "signpost_backend_check_duration_seconds",
			Help:    "How long checks of external backends took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
		}, []string{"kind"}),
	}
	return m, errors.Join(r.Register(m.checks), r.Register(m.took), r.Register(backendsChecked{count, prometheus.NewDesc(
		"signpost_backends_checked", "External backends that this node checks, by what it finds.", []string{"state"}, nil)}))
}

// backendsChecked counts at the time it is asked.
type backendsChecked struct {
	count func() map[verdict.State]int
	desc  *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (b backendsChecked) Describe(ch chan<- *prometheus.Desc) { ch <- b.desc }

// Collect implements prometheus.Collector.
func (b backendsChecked) Collect(ch chan<- prometheus.Metric) {
	counts := b.count()
	for _, s := range []verdict.State{verdict.Unknown, verdict.Up, verdict.Down} {
		ch <- prometheus.MustNewConstMetric(b.desc, prometheus.GaugeValue, float64(counts[s]), s.String())
	}
}
