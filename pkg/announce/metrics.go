package announce

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	takeovers, conflicts prometheus.Counter
	addresses            *prometheus.GaugeVec
	answers, received    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		takeovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signpost_announce_takeovers_total", Help: "Times that this node has begun to answer for an address.",
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "signpost_announce_conflicts_total", Help: "Times that somebody on the link was found who is no node and has an address.",
		}),
		addresses: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signpost_announce_addresses", Help: "Addresses that this node may answer for, by state: held ones it does answer for, probing ones it asks about first, taken ones a stranger has, unlinked ones belong to no link of this node.",
		}, []string{"state"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_announce_answers_total", Help: "Questions who has an address that this node has answered, by protocol.",
		}, []string{"protocol"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_announce_received_total", Help: "Datagrams of other nodes, by kind; invalid are those that are none, or not of who they say.",
		}, []string{"kind"}),
	}
	return m, errors.Join(r.Register(m.takeovers), r.Register(m.conflicts), r.Register(m.addresses), r.Register(m.answers), r.Register(m.received))
}
