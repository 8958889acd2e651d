package readiness

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/controller/term"
)

// gateMetrics are those of all terms of a process.
type gateMetrics struct {
	waiting  prometheus.Gauge
	latency  prometheus.Histogram
	timeouts prometheus.Counter
	asked    prometheus.Counter
}

func newGateMetrics(r prometheus.Registerer) (*gateMetrics, error) {
	m := &gateMetrics{
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signpost_controller_gate_waiting_pods",
			Help: "Pods that wait until the nodes send to them, by the gate signpost.dev/programmed.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "signpost_controller_gate_open_latency_seconds",
			Help:    "Time from when a pod lacked nothing but the gate signpost.dev/programmed until that was written to be open, as the nodes send to it.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 14),
		}),
		timeouts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signpost_controller_gate_timeouts_total",
			Help: "Gates signpost.dev/programmed that were opened before enough nodes sent to the pod.",
		}),
		asked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signpost_controller_gate_asks_total",
			Help: "How often the nodes were asked how far they are.",
		}),
	}
	err := errors.Join(term.Register(r, &m.waiting), term.Register(r, &m.latency), term.Register(r, &m.timeouts), term.Register(r, &m.asked))
	if err != nil {
		return nil, fmt.Errorf("gate: register metrics: %w", err)
	}
	return m, nil
}
