package loadbalancer

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer/pool"
	"github.com/signpost-dev/signpost/pkg/controller/term"
)

// metrics are those of all terms of a process.
type metrics struct {
	writes     *prometheus.CounterVec
	pending    *prometheus.GaugeVec
	used, free *prometheus.GaugeVec
}

// The results of a write.
const (
	resultOK    = "ok"
	resultError = "error"
)

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_load_balancer_writes_total",
			Help: "Writes of the status of Services of type LoadBalancer, by result.",
		}, []string{"result"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signpost_load_balancer_unsatisfied_services",
			Help: "Services that have not got the load balancer addresses that they ask for, by reason. Only the leader knows.",
		}, []string{"reason"}),
		used: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signpost_load_balancer_pool_addresses_used",
			Help: "Addresses of a LoadBalancerPool that Services have. Only the leader knows.",
		}, []string{"pool", "family"}),
		free: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "signpost_load_balancer_pool_addresses_free",
			Help: "Addresses that a LoadBalancerPool can give out. Only the leader knows.",
		}, []string{"pool", "family"}),
	}
	if err := errors.Join(term.Register(r, &m.writes), term.Register(r, &m.pending), term.Register(r, &m.used), term.Register(r, &m.free)); err != nil {
		return nil, fmt.Errorf("load balancer controller: register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) setPending(pending map[string]int) {
	m.pending.Reset()
	for reason, n := range pending {
		m.pending.WithLabelValues(reason).Set(float64(n))
	}
}

func (m *metrics) setPools(states map[string]pool.State) {
	m.used.Reset()
	m.free.Reset()
	for name, s := range states {
		m.setCount(name, "IPv4", s.IPv4)
		m.setCount(name, "IPv6", s.IPv6)
	}
}

func (m *metrics) setCount(name, family string, n *v1alpha1.AddressCount) {
	if n == nil {
		return
	}
	m.used.WithLabelValues(name, family).Set(float64(n.Used))
	if free, ok := new(big.Float).SetString(n.Free); ok {
		f, _ := free.Float64()
		m.free.WithLabelValues(name, family).Set(f)
	}
}

// clear is for the end of a term: somebody else knows from now on.
func (m *metrics) clear() {
	m.pending.Reset()
	m.used.Reset()
	m.free.Reset()
}
