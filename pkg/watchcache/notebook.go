package watchcache

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/model"
)

// notes are the names of what has changed.
type notes struct {
	services   map[model.Name]struct{}
	namespaces map[string]struct{}
	node       bool
	cidrs      bool
	// slices is the highest version of an EndpointSlice that was told of.
	slices uint64
}

// notebook collects notes from the handlers of the watches until they are taken.
type notebook struct {
	// signal holds one element while there are notes that nobody has taken.
	signal chan struct{}

	mu    sync.Mutex
	notes notes
}

func newNotebook() *notebook { return &notebook{signal: make(chan struct{}, 1)} }

func (n *notebook) service(name model.Name) { n.note(func(to *notes) { to.service(name) }) }

func (to *notes) service(name model.Name) {
	if to.services == nil {
		to.services = map[model.Name]struct{}{}
	}
	to.services[name] = struct{}{}
}

// slice notes an EndpointSlice's version together with the Services that it
// belongs or belonged to: who takes the one must take the others.
func (n *notebook) slice(version uint64, owners ...model.Name) {
	n.note(func(to *notes) {
		for _, name := range owners {
			to.service(name)
		}
		to.slices = max(to.slices, version)
	})
}

func (n *notebook) namespace(name string) {
	n.note(func(to *notes) {
		if to.namespaces == nil {
			to.namespaces = map[string]struct{}{}
		}
		to.namespaces[name] = struct{}{}
	})
}

func (n *notebook) node() { n.note(func(to *notes) { to.node = true }) }

func (n *notebook) serviceCIDRs() { n.note(func(to *notes) { to.cidrs = true }) }

func (n *notebook) note(write func(*notes)) {
	n.mu.Lock()
	write(&n.notes)
	n.mu.Unlock()
	n.wake()
}

// wake has the notes taken, even if there are none.
func (n *notebook) wake() {
	select {
	case n.signal <- struct{}{}:
	default:
	}
}

// take returns the notes and starts afresh.
func (n *notebook) take() notes {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.notes
	n.notes = notes{}
	return taken
}

type metrics struct{ built prometheus.Histogram }

func newMetrics(r prometheus.Registerer, latest func() *model.Snapshot) metrics {
	m := metrics{built: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "signpost_snapshot_build_seconds",
		Help:    "Time to make and publish a snapshot of what changed in the watch cache.",
		Buckets: prometheus.ExponentialBuckets(20e-6, 4, 10),
	})}
	r.MustRegister(m.built,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "signpost_snapshot_generation",
			Help: "Number of the newest snapshot; 0 until the watch cache is complete.",
		}, func() float64 {
			if s := latest(); s != nil {
				return float64(s.Generation)
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "signpost_snapshot_services",
			Help: "Services in the newest snapshot.",
		}, func() float64 {
			if s := latest(); s != nil {
				return float64(s.Services.Len())
			}
			return 0
		}))
	return m
}
