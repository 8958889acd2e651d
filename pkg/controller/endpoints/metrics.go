package endpoints

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/controller/term"
)

// metrics are those of all terms of a process.
type metrics struct {
	writes  *prometheus.CounterVec
	syncs   prometheus.Histogram
	latency prometheus.Histogram
	// changes are the reasons to look at a Service that are not the controller's own.
	changes  *prometheus.CounterVec
	batch    prometheus.Histogram
	inFlight prometheus.Gauge
	yields   prometheus.Counter
	plans    *prometheus.CounterVec
}

// What a plan was made of.
const (
	planOfAll   = "all"
	planOfFlips = "flips"
)

// The results of a write.
const (
	resultOK     = "ok"
	resultBehind = "behind" // refused, because it was planned from an old state
	resultError  = "error"
)

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_controller_endpoints_writes_total",
			Help: "Writes of EndpointSlices and Endpoints, by kind, verb and result.",
		}, []string{"kind", "verb", "result"}),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "signpost_controller_endpoints_sync_duration_seconds",
			Help:    "How long it took to plan for one Service and to write the plan.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "signpost_controller_endpoints_change_latency_seconds",
			Help:    "Time from the change of a pod or Service, which is known to the second, to the end of the write that publishes it.",
			Buckets: prometheus.ExponentialBuckets(0.015, 2, 16),
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_controller_endpoints_changes_total",
			Help: "Changes of pods, Services and Nodes that one Service was looked at for, by class: removal or addition.",
		}, []string{"class"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "signpost_controller_endpoints_batch_wait_seconds",
			Help:    "How long additions of one Service waited for each other to share a write; those that did not wait are not counted.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12),
		}),
		plans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_controller_endpoints_plans_total",
			Help: "Plans, by what was looked at: the pods that have flipped their readiness, or all of the Service.",
		}, []string{"of"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signpost_controller_endpoints_writes_in_flight",
			Help: "Writes that are under way.",
		}),
		yields: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signpost_controller_endpoints_yields_total",
			Help: "How often the additions of a plan made room for a removal and were planned again.",
		}),
	}
	err := errors.Join(term.Register(r, &m.writes), term.Register(r, &m.syncs), term.Register(r, &m.latency),
		term.Register(r, &m.changes), term.Register(r, &m.batch), term.Register(r, &m.inFlight), term.Register(r, &m.yields), term.Register(r, &m.plans))
	if err != nil {
		return nil, fmt.Errorf("endpoint controller: register metrics: %w", err)
	}
	return m, nil
}
