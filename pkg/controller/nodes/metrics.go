package nodes

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/controller/nodes/evidence"
	"github.com/signpost-dev/signpost/pkg/controller/term"
)

// metrics are those of all terms of a process.
type metrics struct {
	nodes   *prometheus.GaugeVec
	tooMany prometheus.Gauge
	changes *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		nodes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signpost_controller_nodes",
			Help: "Nodes that are silent for the leader, by what follows: dead (their endpoints are taken out) or kept.",
		}, []string{"state"}),
		tooMany: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "signpost_controller_nodes_too_many_silent",
			Help: "1 while so many nodes are silent at once that all endpoints are kept.",
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_controller_nodes_changes_total",
			Help: "How often the endpoints of a node were removed because it was dead, and restored.",
		}, []string{"change"}),
	}
	err := errors.Join(term.Register(r, &m.nodes), term.Register(r, &m.tooMany), term.Register(r, &m.changes))
	if err != nil {
		return nil, fmt.Errorf("node watcher: register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) set(out evidence.Outcome) {
	m.nodes.WithLabelValues("dead").Set(float64(len(out.Dead)))
	m.nodes.WithLabelValues("kept").Set(float64(len(out.Kept)))
	m.tooMany.Set(0)
	if out.TooMany {
		m.tooMany.Set(1)
	}
}

// forget: who does not lead says nothing of other nodes.
func (m *metrics) forget() {
	m.nodes.Reset()
	m.tooMany.Set(0)
}
