package daemon

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/controller/readiness"
	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// watermarkOf returns what says how far this node is: a resource version such that
// it does what all EndpointSlices said up to it; 0 while it does nothing. All
// parts that serve have to be at a snapshot that has them.
func watermarkOf(watched *watchcache.Cache, inForce []func() uint64) func() uint64 {
	return func() uint64 {
		newest := watched.Snapshot()
		if newest == nil {
			return 0
		}
		generation := newest.Generation
		for _, part := range inForce {
			generation = min(generation, part())
		}
		return watched.Contained(generation)
	}
}

func watermarkGauge(watermark func() uint64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "signpost_watermark",
		Help: "Resource version up to which rules and names are as all EndpointSlices said; 0 before the first.",
	}, func() float64 { return float64(watermark()) })
}

// opensGates says whether this leader opens the gates of pods. Without a way to
// ask the nodes none is.
func (l *leader) opensGates() bool {
	c := &l.cfg.Controllers
	return c.Readiness.Enabled && c.Readiness.Gate.Enabled && c.EndpointSlice.Enabled && l.neighbours != nil
}

func (l *leader) gate() (*readiness.Gate, error) {
	c := &l.cfg.Controllers.Readiness.Gate
	return readiness.NewGate(readiness.GateOptions{
		Client:     l.conn.writer,
		Watermarks: l.neighbours,
		Nodes:      l.addresses,
		Wanted:     c.Wanted,
		Timeout:    c.Timeout.Duration,
		Registerer: l.registerer,
		Log:        l.log,
	})
}

// addresses returns where to ask the nodes that are behind the name server's
// Service; none if that is nil. Of the addresses of both families all nodes have to
// take the same.
func addresses(svc *model.Service) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	if svc == nil {
		return out
	}
	for _, g := range svc.Groups {
		for i := range g.Endpoints {
			e := &g.Endpoints[i]
			if was, known := out[e.Node]; e.Node != "" && (!known || e.Addr.Less(was)) {
				out[e.Node] = e.Addr
			}
		}
	}
	return out
}
