package peers

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	received *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, count func() map[State]int) (*metrics, error) {
	m := &metrics{received: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "signpost_peers_received_total",
		Help: "Messages that other nodes have sent here unasked, by kind; invalid are those that are none.",
	}, []string{"kind"})}
	return m, errors.Join(r.Register(m.received), r.Register(nodesProbed{count, prometheus.NewDesc(
		"signpost_peers_nodes", "Nodes that this one probes, by what it hears of them: alive, silent, or unknown if it never heard of them.",
		[]string{"state"}, nil)}))
}

// nodesProbed counts at the time it is asked.
type nodesProbed struct {
	count func() map[State]int
	desc  *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (n nodesProbed) Describe(ch chan<- *prometheus.Desc) { ch <- n.desc }

// Collect implements prometheus.Collector.
func (n nodesProbed) Collect(ch chan<- prometheus.Metric) {
	counts := n.count()
	for _, s := range []State{Unknown, Alive, Silent} {
		ch <- prometheus.MustNewConstMetric(n.desc, prometheus.GaugeValue, float64(counts[s]), s.String())
	}
}
