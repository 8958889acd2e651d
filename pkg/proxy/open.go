package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/conntrack"
	"github.com/signpost-dev/signpost/pkg/proxy/conntrack/stale"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// begin opens the node's tables. It goes on while somebody else holds them, until
// ctx ends.
func (p *Proxy) begin(ctx context.Context) error {
	for {
		err := p.open(ctx)
		if !errors.Is(err, iptables.ErrLocked) {
			return err
		}
		p.log.Warn("cannot begin yet, will try again", "error", err)
		if !sleep(ctx, lockedPause) {
			return nil
		}
	}
}

// lockedPause is in addition to what a program waits for the lock.
const lockedPause = 100 * time.Millisecond

// open finds the node's tables, and what can be done with them.
func (p *Proxy) open(ctx context.Context) error {
	tables, cfg := p.opts.Tables, p.opts.Config
	p.flows = p.opts.Flows
	if p.flows == nil {
		p.flows = noFlows{}
	}
	if tables == nil {
		var err error
		if tables, err = p.openNode(ctx); err != nil {
			return err
		}
		if r := cfg.render(render.FullKernel()); r.RoutesLocalhost() {
			if err := iptables.CanRouteLocalnet(); err != nil {
				p.log.Warn("node ports are not served at 127.0.0.1", "error", err)
				cfg.LocalhostNodePorts = false
			} else {
				p.routeLocalnet = iptables.RouteLocalnet
			}
		}
		if p.opts.Flows == nil {
			if err := p.openFlows(ctx, cfg, tables); err != nil {
				return err
			}
		}
	}
	var families []*programmer
	for _, t := range tables {
		kernel, missing, err := t.Kernel(ctx)
		if err != nil {
			if t.Family() == ruleset.IPv6 && !errors.Is(err, iptables.ErrLocked) && ctx.Err() == nil {
				p.log.Warn("Services have no IPv6 on this node", "error", err)
				continue
			}
			return err
		}
		for _, m := range missing {
			p.log.Warn("iptables cannot do everything", "family", t.Family().String(), "missing", m)
		}
		families = append(families, &programmer{
			family: t.Family(), tables: t, log: p.log, events: p.opts.Events, metrics: p.metrics.of(t.Family()),
			cfg: cfg.render(kernel), quarantine: map[model.Name]*inmate{}, reported: map[model.Name]string{}, odd: map[ruleset.Key]oddity{},
		})
	}
	p.families = families
	return nil
}

// nameLeftovers says which rules of kube-proxy remain on the node. They do no harm to
// Services that there are, as Signpost's come first, but to those that are deleted.
func (p *Proxy) nameLeftovers(ctx context.Context) {
	found, err := iptables.FindLeftovers(ctx)
	if err != nil && ctx.Err() == nil {
		p.log.Warn("cannot look for rules of a former kube-proxy", "error", err)
	}
	for _, l := range found {
		p.log.Warn("a former kube-proxy has left rules, which still take packets of Services that are deleted; remove them with kube-proxy --cleanup",
			"backend", string(l.Backend), "family", l.Family.String(), "rules", l.Rules)
	}
}

// openNode opens the tables of this node. IPv4 has to be there, IPv6 need not.
func (p *Proxy) openNode(ctx context.Context) ([]Tables, error) {
	backend, err := iptables.Detect(ctx, p.opts.Config.Backend)
	if err != nil {
		return nil, fmt.Errorf("choosing the iptables programs: %w", err)
	}
	p.log.Info("using iptables", "backend", string(backend))
	other := iptables.Legacy
	if backend == iptables.Legacy {
		other = iptables.NFT
	}
	p.settled = func(ctx context.Context) error {
		p.nameLeftovers(ctx)
		return iptables.CleanupBackend(ctx, other, p.log)
	}
	witness := iptables.NewWitness(backend)
	v4, err := iptables.Open(ctx, backend, ruleset.IPv4, witness)
	if err != nil {
		return nil, err
	}
	out := []Tables{v4}
	v6, err := iptables.Open(ctx, backend, ruleset.IPv6, witness)
	if errors.Is(err, iptables.ErrLocked) {
		return nil, err
	}
	if err != nil {
		p.log.Warn("Services have no IPv6 on this node", "error", err)
		return out, nil
	}
	return append(out, v6), nil
}

// openFlows opens the table of connections of this node. Without it packets of
// new connections go where they should, so that the rest goes on.
func (p *Proxy) openFlows(ctx context.Context, cfg Config, families []Tables) error {
	var opened []conntrack.Table
	for _, f := range families {
		table, err := conntrack.Open(ctx, f.Family())
		if err != nil {
			p.log.Warn("stale flows are not cut: UDP clients that never pause go on to reach endpoints that are gone, "+
				"and TCP clients may wait up to two minutes for one that died in a handshake", "family", f.Family().String(), "error", err)
			continue
		}
		opened = append(opened, table)
	}
	if len(opened) == 0 {
		return nil
	}
	var err error
	p.flows, err = conntrack.New(conntrack.Options{
		Node:   stale.Node{NodePortAddresses: cfg.NodePortAddresses, LocalhostNodePorts: cfg.LocalhostNodePorts},
		Tables: opened, Log: p.log, Registerer: p.opts.Registerer,
	})
	return err
}

// noFlows are nobody's.
type noFlows struct{}

func (noFlows) Programmed(ruleset.Family, *model.Snapshot, *model.ServiceMap) {}

func (noFlows) Run(context.Context) error { return nil }

func (c Config) render(kernel render.Kernel) render.Config {
	return render.Config{
		ClusterCIDRs: c.ClusterCIDRs, DetectLocal: render.Mode(c.DetectLocal), DetectInterface: c.DetectInterface,
		MasqueradeAll: c.MasqueradeAll, MasqueradeBit: c.MasqueradeBit,
		NodePortAddresses: c.NodePortAddresses, NodePortPrimary: c.NodePortPrimary, LocalhostNodePorts: c.LocalhostNodePorts,
		ServiceCIDRs: nil, LocalListeners: nil, Kernel: kernel,
	}
}

// Rules writes to w what Run would write for snap on a node that has none of its
// rules and can do everything: for each family input for iptables-restore, with the
// hooks as comments. It touches nothing.
func Rules(w io.Writer, snap *model.Snapshot, cfg Config, listeners []netip.AddrPort) error {
	rendered := cfg.render(render.FullKernel())
	rendered.LocalListeners, rendered.ServiceCIDRs = listeners, snap.ServiceCIDRs
	for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		program := "iptables"
		if family == ruleset.IPv6 {
			program = "ip6tables"
		}
		out := render.Render(family, rendered, snap.Node, &snap.Services)
		if _, err := fmt.Fprintf(w, "# %s-restore --noflush\n%s", program, ruleset.Replace(out.Set, nil).Text()); err != nil {
			return err
		}
		for _, h := range out.Hooks {
			if _, err := fmt.Fprintf(w, "# %s -t %s -I %s %s\n", program, h.Chain.Table, h.Chain.Name, h.Rule()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Cleanup removes all rules of Signpost from this node, of both iptables
// programs and both families.
func Cleanup(ctx context.Context, log *slog.Logger) error { return iptables.Cleanup(ctx, log) }
