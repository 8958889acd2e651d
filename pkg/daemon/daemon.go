package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/dns"
	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/health"
	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy"
	"github.com/signpost-dev/signpost/pkg/proxy/healthcheck"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// Run is the daemon. It returns nil when ctx ends, else why it cannot go on; the
// error of what failed first, as all else is stopped because of it.
//
//	API server ── connection ──► watch cache ──► snapshots ──┬──► proxy ──► iptables
//	                  │               │                      ├──► dns   ──► port 53
//	                  │               │                      └──► announce ──► ARP, NDP
//	                  └───────────────┴──► leader: term of the controllers
//	                     other nodes ◄──► peers ──┘
//
// cfg must be valid, and complete by FromEnvironment.
func Run(ctx context.Context, cfg *v1alpha1.SignpostConfiguration, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	conn, err := connect(ctx, &cfg.ClientConnection)
	if err != nil {
		return err
	}
	registry.MustRegister(conn.heard.gauge())
	events, stopEvents := newEvents(conn.clientset, cfg.NodeName)
	defer stopEvents()
	watched, err := watch(cfg, conn, events, log, registry)
	if err != nil {
		return err
	}
	if cfg.Proxy.Enabled {
		if err := proxy.AwaitNoKubeProxy(ctx, proxy.KubeProxyAddress, log); err != nil {
			return nil // told to stop meanwhile
		}
	}
	// First of all: who cannot have these addresses is not alone on the node.
	probes, err := health.Listen(ctx, health.Options{
		Address: cfg.Health.BindAddress, MetricsAddress: cfg.Metrics.BindAddress, Gatherer: registry, Log: log,
	})
	if err != nil {
		return err
	}
	defer probes.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	local := &node{cfg: cfg, conn: conn, watched: watched, events: events, log: log, registry: registry}
	serves, err := local.serve(ctx, group)
	if err != nil {
		cancel()
		return errors.Join(err, group.Wait()) // what has been started must not be cut off
	}
	watermark := watermarkOf(watched, serves.inForce)
	registry.MustRegister(watermarkGauge(watermark))
	checks, err := startProber(ctx, group, cfg, watched, log, registry)
	if err != nil {
		cancel()
		return errors.Join(err, group.Wait())
	}
	neighbours, err := startPeers(ctx, group, cfg, watched, says{watermark, checks}, log, registry)
	if err != nil {
		cancel()
		return errors.Join(err, group.Wait())
	}
	if err := startAnnouncer(ctx, group, local, serves.programmed); err != nil {
		cancel()
		return errors.Join(err, group.Wait())
	}
	if leads(cfg) {
		l := &leader{cfg: cfg, conn: conn, shared: watched.Shared(), events: events, neighbours: neighbours, watched: watched, checks: checks, log: log, registerer: registry}
		l.peers = func() []string { return daemons(cfg, watched.Snapshot()) }
		l.addresses = func() map[string]netip.Addr { return addresses(nameServerOf(cfg, watched.Snapshot())) }
		group.Go(func() error { return l.run(ctx) })
	}
	group.Go(func() error { return watched.Run(ctx) })
	ready := append([]health.Check{synced(watched)}, serves.ready...)
	group.Go(func() error {
		spareMemory(ctx, ready)
		return nil
	})
	group.Go(func() error {
		return probes.Run(ctx, nil, ready, serves.healthz)
	})
	return group.Wait()
}

// serving is what every node does.
type serving struct {
	// ready tells whether it is done.
	ready []health.Check
	// inForce returns, for each part, the generation of the snapshot that it is at.
	inForce []func() uint64
	// programmed returns the generation of the snapshot whose rules are in; nil if
	// packets are left to others.
	programmed func() uint64
	// healthz tells load balancers of the node; nil if packets are left to others.
	healthz http.Handler
}

// node is what every node does with what it knows.
type node struct {
	cfg      *v1alpha1.SignpostConfiguration
	conn     *connection
	watched  *watchcache.Cache
	events   *events
	log      *slog.Logger
	registry *prometheus.Registry
}

// serve starts it.
func (n *node) serve(ctx context.Context, group *errgroup.Group) (serving, error) {
	var out serving
	var rules dns.Rules
	if n.cfg.Proxy.Enabled {
		p, err := n.startProxy(ctx, group)
		if err != nil {
			return out, err
		}
		rules = p
		if out.healthz, err = healthcheck.Node(n.watched.Snapshot, p.Behind, n.registry); err != nil {
			return out, fmt.Errorf("proxy: %w", err)
		}
		out.ready, out.inForce, out.programmed = append(out.ready, written(p)), append(out.inForce, p.Programmed), p.Programmed
	}
	if n.cfg.DNS.Enabled {
		check, answered, err := n.startDNS(ctx, group, rules)
		if err != nil {
			return out, err
		}
		out.ready, out.inForce = append(out.ready, check), append(out.inForce, answered)
	}
	return out, nil
}

func watch(cfg *v1alpha1.SignpostConfiguration, conn *connection, events *events, log *slog.Logger, registry *prometheus.Registry) (*watchcache.Cache, error) {
	return watchcache.New(watchcache.Options{
		Config:     conn.config,
		HTTPClient: conn.httpClient,
		NodeName:   cfg.NodeName,
		Log:        log,
		Registerer: registry,
		OnProblem: func(svc *model.Service, p model.Problem) {
			if events != nil {
				events.ServiceWarning(svc, "ServiceInvalid", p.String())
			}
		},
	})
}

func synced(watched *watchcache.Cache) health.Check {
	return health.Check{Name: "watch cache", Check: func() error {
		if watched.Snapshot() == nil {
			return errors.New("not complete yet")
		}
		return nil
	}}
}

// startProxy also tells load balancers what the rules lead to, and the proxy at which addresses this node serves names
// itself, which it finds in the same snapshots.
func (n *node) startProxy(ctx context.Context, group *errgroup.Group) (*proxy.Proxy, error) {
	p, err := proxy.New(proxy.Options{
		Config:     proxyConfig(&n.cfg.Proxy),
		Snapshots:  n.watched,
		Events:     n.events,
		Log:        n.log,
		Registerer: n.registry,
		Tables:     nil,
		Flows:      nil,
		LocalListeners: func(s *model.Snapshot) []netip.AddrPort {
			if !n.cfg.DNS.Enabled {
				return nil
			}
			return nameServerAddresses(&n.cfg.DNS, s)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	group.Go(func() error { return p.Run(ctx) })
	checks := healthcheck.New(healthcheck.Options{
		Snapshots: n.watched, Behind: p.Behind, At: nodePortsAt(&n.cfg.Proxy), Events: n.events, Log: n.log,
	})
	group.Go(func() error { return checks.Run(ctx) })
	return p, nil
}

func written(p *proxy.Proxy) health.Check {
	return health.Check{Name: "rules", Check: func() error {
		if p.Programmed() == 0 {
			return errors.New("not written yet")
		}
		return nil
	}}
}

// startDNS has the name server wait for rules, unless that is nil. Only if it is
// to walk search lists, or to verify names of pods, those of this node are watched.
func (n *node) startDNS(ctx context.Context, group *errgroup.Group, rules dns.Rules) (health.Check, func() uint64, error) {
	options := dnsOptions(&n.cfg.DNS, n.watched, n.log, n.registry)
	options.Rules = rules
	verified := options.Pods == records.PodsVerified
	if n.cfg.DNS.SearchPath.Enabled || n.cfg.DNS.QueryLog || verified {
		pods, err := watchcache.NewPods(n.conn.config, n.conn.httpClient, n.cfg.NodeName)
		if err != nil {
			return health.Check{}, nil, fmt.Errorf("dns: %w", err)
		}
		group.Go(func() error { return pods.Run(ctx) })
		if verified {
			options.OwnPods = pods
		}
		if n.cfg.DNS.SearchPath.Enabled {
			options.Clients = pods
		}
		if n.cfg.DNS.QueryLog {
			options.QueryLog = pods
		}
	}
	server, err := dns.New(options)
	if err != nil {
		return health.Check{}, nil, fmt.Errorf("dns: %w", err)
	}
	group.Go(func() error { return server.Run(ctx) })
	if err := n.startOutward(ctx, group); err != nil {
		return health.Check{}, nil, err
	}
	return health.Check{Name: "names", Check: server.Ready}, server.Answered, nil
}

// Cleanup removes from this node what Signpost has put there. No daemon should
// be running on it.
func Cleanup(ctx context.Context, log *slog.Logger) error {
	return errors.Join(proxy.Cleanup(ctx, log), dns.Cleanup(ctx))
}
