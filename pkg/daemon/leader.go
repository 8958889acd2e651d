package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints"
	"github.com/signpost-dev/signpost/pkg/controller/readiness"
	"github.com/signpost-dev/signpost/pkg/controller/term"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// leader is what runs on one node at a time.
type leader struct {
	cfg        *v1alpha1.SignpostConfiguration
	conn       *connection
	shared     cache.Cache
	events     *events
	log        *slog.Logger
	registerer prometheus.Registerer
}

func leads(cfg *v1alpha1.SignpostConfiguration) bool {
	return cfg.LeaderElection.LeaderElect && (cfg.Controllers.Endpoints.Enabled || cfg.Controllers.EndpointSlice.Enabled)
}

// run campaigns, leads and campaigns again until ctx ends.
func (l *leader) run(ctx context.Context) error {
	e := &l.cfg.LeaderElection
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
		Log:            l.log,
		Registerer:     l.registerer,
	})
	if err != nil {
		return fmt.Errorf("leaderElection: %w", err)
	}
	return candidate.Run(ctx, l.term)
}

// term is one term: a cache of what only the leader watches, and the controllers
// on it. All of it ends with the term.
func (l *leader) term(ctx context.Context) error {
	termCache, err := watchcache.NewTerm(l.conn.config, l.conn.httpClient, endpoints.TermObjects())
	if err != nil {
		return err
	}
	teller, err := readiness.NewTeller(readiness.TellerOptions{
		Client: l.conn.writer, Recorder: l.events, Conditions: l.cfg.Controllers.Readiness.ServiceConditions, Log: l.log,
	})
	if err != nil {
		return fmt.Errorf("controllers.readiness: %w", err)
	}
	var observer endpoints.Observer
	if l.cfg.Controllers.Readiness.Enabled {
		observer = teller
	}
	controller, err := endpoints.New(endpoints.Options{
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
		Observer:             observer,
		Log:                  l.log,
	})
	if err != nil {
		return fmt.Errorf("controllers: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return termCache.Start(ctx) })
	group.Go(func() error { return controller.Run(ctx) })
	if l.cfg.Controllers.Readiness.Enabled {
		group.Go(func() error { return teller.Run(ctx, controller) })
	}
	return group.Wait()
}
