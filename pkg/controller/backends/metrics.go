package backends

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/controller/term"
)

// metrics are those of all terms of a process.
type metrics struct {
	writes   *prometheus.CounterVec
	backends *prometheus.GaugeVec
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
			Name: "signpost_external_backends_writes_total",
			Help: "Writes of EndpointSlices that say which external backends work, by verb and result.",
		}, []string{"verb", "result"}),
		backends: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signpost_external_backends",
			Help: "External backends that are checked, by what the majority says, and whether they get packets. Only the leader knows.",
		}, []string{"state", "published"}),
	}
	if err := errors.Join(term.Register(r, &m.writes), term.Register(r, &m.backends)); err != nil {
		return nil, fmt.Errorf("external backends: register metrics: %w", err)
	}
	return m, nil
}

// clear is for the end of a term: somebody else knows from now on.
func (m *metrics) clear() { m.backends.Reset() }

// count sets the gauges.
func (c *Controller) count() {
	type label struct{ state, published string }
	counts := map[label]int{}
	c.mu.Lock()
	for _, s := range c.services {
		for _, b := range s.backends {
			counts[label{b.opinion.State.String(), fmt.Sprint(b.opinion.Works)}]++
		}
	}
	c.mu.Unlock()
	c.metrics.clear()
	for l, n := range counts {
		c.metrics.backends.WithLabelValues(l.state, l.published).Set(float64(n))
	}
}
