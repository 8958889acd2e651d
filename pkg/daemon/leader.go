package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/backends/prober"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/loadbalancer"
	"github.com/signpost-dev/signpost/pkg/controller/mirror"
	"github.com/signpost-dev/signpost/pkg/controller/readiness"
	"github.com/signpost-dev/signpost/pkg/controller/term"
	"github.com/signpost-dev/signpost/pkg/peers"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// leader is what runs on one node at a time.
type leader struct {
	cfg        *v1alpha1.SignpostConfiguration
	conn       *connection
	shared     cache.Cache
	events     *events
	neighbours *peers.Peers // nil: off
	log        *slog.Logger
	registerer prometheus.Registerer
	// peers returns the nodes that run Signpost, as far as they are known.
	peers func() []string
	// addresses are those of the nodes that run Signpost, as far as they are known.
	addresses func() map[string]netip.Addr
	// watched is what knows the slices of each Service.
	watched *watchcache.Cache
	// checks is what checks backends on this node; nil: off.
	checks *prober.Prober
	// warm is the cache of a term to come, or nil. Only the goroutine that
	// campaigns touches it.
	warm *termCache
	// stock looks for others that do the same work.
	stock *stock
}

func leads(cfg *v1alpha1.SignpostConfiguration) bool {
	c := &cfg.Controllers
	return cfg.LeaderElection.LeaderElect &&
		(c.Endpoints.Enabled || c.EndpointSlice.Enabled || c.EndpointSliceMirroring.Enabled || c.LoadBalancer.Enabled || c.ExternalBackends.Enabled)
}

// run campaigns, leads and campaigns again until ctx ends.
func (l *leader) run(ctx context.Context) error {
	e := &l.cfg.LeaderElection
	l.stock = newStock(l.conn, l.events, l.cfg, l.log)
	candidate, err := term.New(term.Options{
		Client: l.conn.clientset,
		// The node's name, and nothing of the process: a leader that was killed
		// goes on with its own lease when it is back, in a second instead of when
		// the lease ends. A second process of the node gets as far as the address
		// of /readyz, and if it has another one, every write has preconditions.
		Identity:       l.cfg.NodeName,
		LeaseName:      e.ResourceName,
		LeaseNamespace: e.ResourceNamespace,
		LeaseDuration:  e.LeaseDuration.Duration,
		RenewDeadline:  e.RenewDeadline.Duration,
		RetryPeriod:    e.RetryPeriod.Duration,
		Candidates:     e.Candidates,
		Peers:          l.peers,
		Standby: func(next bool) {
			if e.WarmStandby {
				l.standby(ctx, next)
			}
		},
		Log:        l.log,
		Registerer: l.registerer,
	})
	if err != nil {
		return fmt.Errorf("leaderElection: %w", err)
	}
	return candidate.Run(ctx, l.term)
}

// term is one term: a cache of what only the leader watches, and the controllers
// on it. All of it ends with the term; the cache may be older than it.
func (l *leader) term(ctx context.Context) error {
	termCache, err := l.cache(ctx)
	if err != nil {
		return err
	}
	defer termCache.stop()
	controllers, err := l.controllers(termCache)
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	if !l.stock.gone(ctx) {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if l.stock.come(ctx) {
			return errors.New("the endpoint controllers of kube-controller-manager have come")
		}
		return nil
	})
	group.Go(func() error { return termCache.run(ctx) })
	for _, run := range controllers {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}

// runner runs a controller for one term.
type runner func(context.Context) error

// controllers returns those that are switched on.
func (l *leader) controllers(termCache *termCache) ([]runner, error) {
	var out []runner
	if c := &l.cfg.Controllers; c.Endpoints.Enabled || c.EndpointSlice.Enabled {
		controllers, err := l.endpoints(termCache)
		if err != nil {
			return nil, err
		}
		out = append(out, controllers...)
	}
	if l.cfg.Controllers.EndpointSliceMirroring.Enabled {
		controller, err := l.mirror(termCache)
		if err != nil {
			return nil, err
		}
		out = append(out, controller.Run)
	}
	if l.cfg.Controllers.LoadBalancer.Enabled {
		controller, err := l.loadBalancer(termCache)
		if err != nil {
			return nil, err
		}
		out = append(out, controller.Run)
	}
	controllers, err := l.backends()
	if err != nil {
		return nil, err
	}
	return append(out, controllers...), nil
}

// follower works on what the endpoint controller knows.
type follower func(context.Context, *endpoints.Controller) error

// endpoints returns the controller, who tells of its verdicts, and who opens the
// gates of pods.
func (l *leader) endpoints(termCache *termCache) ([]runner, error) {
	options := endpoints.Options{
		Client:               l.conn.writer,
		Shared:               l.shared,
		Term:                 termCache,
		Endpoints:            l.cfg.Controllers.Endpoints.Enabled,
		EndpointSlices:       l.cfg.Controllers.EndpointSlice.Enabled,
		MaxEndpointsPerSlice: l.cfg.Controllers.EndpointSlice.MaxEndpointsPerSlice,
		BatchPeriod:          l.cfg.Controllers.EndpointSlice.BatchPeriod.Duration,
		Concurrency:          l.cfg.Controllers.Concurrency,
		Registerer:           l.registerer,
		Recorder:             l.events,
		Observer:             nil,
		Gatekeeper:           nil,
		Log:                  l.log,
	}
	var followers []follower
	if l.cfg.Controllers.Readiness.Enabled {
		teller, err := readiness.NewTeller(readiness.TellerOptions{
			Client: l.conn.writer, Recorder: l.events, Conditions: l.cfg.Controllers.Readiness.ServiceConditions, Log: l.log,
		})
		if err != nil {
			return nil, err
		}
		options.Observer = teller
		followers = append(followers, func(ctx context.Context, c *endpoints.Controller) error { return teller.Run(ctx, c) })
	}
	if l.opensGates() {
		gate, err := l.gate()
		if err != nil {
			return nil, err
		}
		options.Gatekeeper = gate
		followers = append(followers, func(ctx context.Context, c *endpoints.Controller) error { return gate.Run(ctx, c) })
	}
	controller, err := endpoints.New(options)
	if err != nil {
		return nil, err
	}
	run, err := l.withNodeFailure(controller)
	if err != nil {
		return nil, err
	}
	out := []runner{run}
	for _, run := range followers {
		out = append(out, func(ctx context.Context) error { return run(ctx, controller) })
	}
	return out, nil
}

func (l *leader) mirror(termCache *termCache) (*mirror.Controller, error) {
	return mirror.New(mirror.Options{
		Client:                l.conn.writer,
		Shared:                l.shared,
		Term:                  termCache,
		MaxEndpointsPerSubset: l.cfg.Controllers.EndpointSliceMirroring.MaxEndpointsPerSubset,
		Concurrency:           l.cfg.Controllers.Concurrency,
		Registerer:            l.registerer,
		Recorder:              l.events,
		Log:                   l.log,
	})
}

func (l *leader) loadBalancer(termCache *termCache) (*loadbalancer.Controller, error) {
	pools, err := l.conn.pools()
	if err != nil {
		return nil, err
	}
	return loadbalancer.New(loadbalancer.Options{
		Client:      l.conn.writer,
		Pools:       pools,
		Shared:      l.shared,
		Term:        termCache,
		Unclassed:   l.cfg.Controllers.LoadBalancer.Default,
		Concurrency: l.cfg.Controllers.Concurrency,
		Registerer:  l.registerer,
		Recorder:    l.events,
		Log:         l.log,
	})
}
