package daemon

import (
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
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
	return c.Readiness.Enabled && c.Readiness.Gate.Enabled && c.EndpointSlice.Enabled && l.watermarks != nil
}

func (l *leader) gate() (*readiness.Gate, error) {
	c := &l.cfg.Controllers.Readiness.Gate
	return readiness.NewGate(readiness.GateOptions{
		Client:     l.conn.writer,
		Watermarks: l.watermarks,
		Nodes:      l.addresses,
		Wanted:     c.Wanted,
		Timeout:    c.Timeout.Duration,
		Registerer: l.registerer,
		Log:        l.log,
	})
}

// addresses returns where to ask the nodes on which Signpost runs. Of a node with
// addresses of both families all take the same one.
func addresses(cfg *v1alpha1.SignpostConfiguration, s *model.Snapshot) map[string]netip.Addr {
	if !cfg.DNS.Enabled || s == nil {
		return nil
	}
	svc := s.Services.Get(nameServer(&cfg.DNS))
	if svc == nil {
		return nil
	}
	out := map[string]netip.Addr{}
	for _, g := range svc.Groups {
		for i := range g.Endpoints {
			e := &g.Endpoints[i]
			if has, known := out[e.Node]; e.Node != "" && (!known || e.Addr.Less(has)) {
				out[e.Node] = e.Addr
			}
		}
	}
	return out
}
