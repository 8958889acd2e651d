package mirror

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/controller/term"
)

// metrics are those of all terms of a process.
type metrics struct {
	writes *prometheus.CounterVec
	syncs  prometheus.Histogram
}

// The results of a write.
const (
	resultOK     = "ok"
	resultBehind = "behind" // refused, because it was planned from an old state
	resultError  = "error"
)

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_controller_mirror_writes_total",
			Help: "Writes of EndpointSlices that mirror Endpoints, by verb and result.",
		}, []string{"verb", "result"}),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "signpost_controller_mirror_sync_duration_seconds",
			Help:    "How long it took to see whether the Endpoints of one Service are mirrored, and to write what is not.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
		}),
	}
	if err := errors.Join(term.Register(r, &m.writes), term.Register(r, &m.syncs)); err != nil {
		return nil, fmt.Errorf("mirroring controller: register metrics: %w", err)
	}
	return m, nil
}
