package daemon

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/backends/prober"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/nodes"
	"github.com/signpost-dev/signpost/pkg/controller/nodes/evidence"
	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/peers"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// says is what this node says of itself and others to those who ask.
type says struct {
	programmed func() uint64
	checks     *prober.Prober // nil: off
}

// startPeers starts to talk with the daemons of other nodes; it returns nil if
// that is off.
func startPeers(ctx context.Context, group *errgroup.Group, cfg *v1alpha1.SignpostConfiguration, watched *watchcache.Cache, says says, log *slog.Logger, registry *prometheus.Registry) (*peers.Peers, error) {
	if !cfg.Peers.Enabled {
		return nil, nil
	}
	roster := &roster{cfg: cfg, snapshot: watched.Snapshot}
	p, err := peers.New(peers.Options{
		NodeName: cfg.NodeName,
		Port:     uint16(cfg.Peers.Port),
		Listen: func() []netip.Addr {
			if s := watched.Snapshot(); s != nil {
				return s.Node.Addrs
			}
			return nil
		},
		Nodes:      roster.read,
		Watermark:  says.programmed,
		Finding:    says.finding,
		Registerer: registry,
		Log:        log,
	})
	if err != nil {
		return nil, err
	}
	group.Go(func() error { return p.Run(ctx) })
	return p, nil
}

// roster finds the nodes that run Signpost where their addresses are, too: behind
// the name server's Service. It works again only when that has changed.
type roster struct {
	cfg      *v1alpha1.SignpostConfiguration
	snapshot func() *model.Snapshot
	from     *model.Service
	last     *peers.Roster
}

// read returns nil as long as there is nothing to know. One call at a time.
func (r *roster) read() *peers.Roster {
	svc := nameServerOf(r.cfg, r.snapshot())
	if svc == nil || svc == r.from {
		return r.last
	}
	r.from, r.last = svc, &peers.Roster{Addrs: addresses(svc)}
	return r.last
}

// withNodeFailure returns what runs the endpoint controller, with who tells it of
// dead nodes unless that is off.
func (l *leader) withNodeFailure(controller *endpoints.Controller) (runner, error) {
	if l.neighbours == nil || l.cfg.Controllers.NodeFailure == v1alpha1.NodeFailureOff {
		return controller.Run, nil
	}
	watcher, err := nodes.New(nodes.Options{
		Leases:     l.conn.writer,
		Peers:      hearsay{l.neighbours},
		Endpoints:  controller,
		Mode:       evidence.Mode(l.cfg.Controllers.NodeFailure),
		Recorder:   l.events,
		Registerer: l.registerer,
		Log:        l.log,
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		watcher.Start(ctx) // first, lest the endpoints of a dead node come back for a moment
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return controller.Run(ctx) })
		group.Go(func() error { return watcher.Run(ctx) })
		return group.Wait()
	}, nil
}

// hearsay is what peers hear, as evidence.
type hearsay struct{ *peers.Peers }

// Opinions implements nodes.Peers.
func (h hearsay) Opinions() map[string]evidence.Opinion {
	out := map[string]evidence.Opinion{}
	for node, o := range h.Peers.Opinions() {
		out[node] = asEvidence(o)
	}
	return out
}

// About implements nodes.Peers.
func (h hearsay) About(ctx context.Context, node string) []evidence.Opinion {
	var out []evidence.Opinion
	for _, o := range h.Peers.About(ctx, node) {
		out = append(out, asEvidence(o))
	}
	return out
}

func asEvidence(o peers.Opinion) evidence.Opinion {
	switch o.State {
	case peers.Alive:
		return evidence.Opinion{State: evidence.Alive}
	case peers.Silent:
		return evidence.Opinion{State: evidence.Silent, Silence: o.Silence}
	case peers.Unknown:
	}
	return evidence.Opinion{}
}
