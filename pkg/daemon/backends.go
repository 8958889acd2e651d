package daemon

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/controller/backends"
	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/prober"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/dns/forward"
	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/peers"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// startProber starts to check external backends, as soon as a leader asks about
// them; it returns nil if that is off.
func startProber(ctx context.Context, group *errgroup.Group, cfg *v1alpha1.SignpostConfiguration, watched *watchcache.Cache, log *slog.Logger, registry *prometheus.Registry) (*prober.Prober, error) {
	if !cfg.Controllers.ExternalBackends.Enabled {
		return nil, nil
	}
	p, err := prober.New(prober.Options{Shared: watched.Shared(), Registerer: registry, Log: log})
	if err != nil {
		return nil, err
	}
	group.Go(func() error { return p.Run(ctx) })
	return p, nil
}

// finding answers another node.
func (s says) finding(backend [16]byte) peers.Finding {
	if s.checks == nil {
		return peers.Finding{}
	}
	f := s.checks.Finding(backend)
	return peers.Finding{State: uint8(f.State), Cause: uint8(f.Cause), Detail: f.Detail}
}

// backends returns the controller, and what resolves names for it: by the same
// servers as the name server of this node, whose metrics are its own. Turned off, it
// takes back what it has published.
func (l *leader) backends() ([]runner, error) {
	forwarder, err := forward.New(forward.Options{
		Upstreams: l.cfg.DNS.Upstreams, StubDomains: l.cfg.DNS.StubDomains, IsSelf: nil, Registerer: prometheus.NewRegistry(), Log: l.log,
	})
	if err != nil {
		return nil, err
	}
	controller, err := backends.New(backends.Options{
		Client: l.conn.writer,
		Shared: l.shared,
		Slices: func(ctx context.Context, k ledger.Key) ([]*discoveryv1.EndpointSlice, error) {
			return l.watched.SlicesOf(ctx, model.Name{Namespace: k.Namespace, Name: k.Name})
		},
		Nodes:       checkers{self: l.cfg.NodeName, local: l.checks, neighbours: l.neighbours, addresses: l.addresses},
		Resolver:    resolver{forwarder},
		Retire:      l.checks == nil,
		Concurrency: l.cfg.Controllers.Concurrency,
		Registerer:  l.registerer,
		Recorder:    l.events,
		Log:         l.log,
	})
	if err != nil {
		return nil, err
	}
	return []runner{controller.Run, forwarder.Run}, nil
}

// checkers are the nodes that check backends: this one, and those that it hears.
type checkers struct {
	self       string
	local      *prober.Prober
	neighbours *peers.Peers // nil: off
	addresses  func() map[string]netip.Addr
}

// Able implements backends.Nodes.
func (c checkers) Able() (names []string, all int) {
	names = []string{c.self}
	addresses := c.addresses()
	if c.neighbours == nil || len(addresses) == 0 {
		return names, 1
	}
	for node, o := range c.neighbours.Opinions() {
		if o.State == peers.Alive {
			names = append(names, node)
		}
	}
	all = len(addresses)
	if _, listed := addresses[c.self]; !listed {
		all++
	}
	return names, all
}

// Ask implements backends.Nodes.
func (c checkers) Ask(ctx context.Context, names []string, backend check.Key) []verdict.Finding {
	addresses := c.addresses()
	others := map[string]netip.Addr{}
	for _, name := range names {
		if name != c.self {
			others[name] = addresses[name]
		}
	}
	var found map[string]peers.Finding
	if len(others) > 0 {
		found = c.neighbours.Findings(ctx, others, backend)
	}
	var out []verdict.Finding
	for _, name := range names {
		if name == c.self {
			out = append(out, c.local.Finding(backend))
		} else if f, replied := found[name]; replied {
			out = append(out, verdict.Finding{State: verdict.State(f.State), Cause: verdict.Cause(f.Cause), Detail: f.Detail})
		}
	}
	return out
}

// resolver resolves names of backends.
type resolver struct{ forwarder *forward.Forwarder }

// Resolve implements backends.Resolver.
func (r resolver) Resolve(ctx context.Context, name string, ipv4 bool) ([]netip.Addr, error) {
	qtype := dns.TypeAAAA
	if ipv4 {
		qtype = dns.TypeA
	}
	m, err := r.forwarder.Resolve(ctx, forward.Query{Name: dns.Fqdn(name), Type: qtype, RecursionDesired: true})
	switch {
	case err != nil:
		return nil, err
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, rcodeError(m.Rcode)
	}
	return addressesIn(m.Answer), nil
}

type rcodeError int

// Error implements error.
func (e rcodeError) Error() string { return "the name server answered " + dns.RcodeToString[int(e)] }

func addressesIn(records []dns.RR) []netip.Addr {
	var out []netip.Addr
	for _, rr := range records {
		var bytes []byte
		switch rr := rr.(type) {
		case *dns.A:
			bytes = rr.A
		case *dns.AAAA:
			bytes = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(bytes); ok {
			out = append(out, a.Unmap())
		}
	}
	return out
}
