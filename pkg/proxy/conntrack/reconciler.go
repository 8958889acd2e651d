package conntrack

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/conntrack/stale"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Table is the kernel's table of connections of one family: that of a network
// namespace, or a fake. It is used by one goroutine at a time.
type Table interface {
	Family() ruleset.Family
	// Cut deletes the flows that filter is for and stale is true for, and returns
	// their number, also with an error.
	Cut(ctx context.Context, filter stale.Filter, stale func(stale.Flow) bool) (int, error)
	// Addresses returns the node's own addresses.
	Addresses() (map[netip.Addr]struct{}, error)
	// Close is called once, after all else.
	Close()
}

// Options are what a Reconciler is made of. All are needed.
type Options struct {
	// Node says where NodePorts are reached.
	Node stale.Node
	// Tables has one for each family that is programmed.
	Tables     []Table
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Reconciler cuts what stale calls stale. The families are independent of each
// other: each has its own table, book and goroutine.
type Reconciler struct{ workers []*worker }

// New returns a Reconciler that does nothing until Run.
func New(opts Options) (*Reconciler, error) {
	if len(opts.Tables) == 0 || opts.Log == nil || opts.Registerer == nil {
		return nil, errors.New("conntrack: Tables, Log and Registerer are needed")
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, err
	}
	r := &Reconciler{}
	for _, t := range opts.Tables {
		family := t.Family()
		r.workers = append(r.workers, &worker{
			table: t, book: stale.New(family, opts.Node), news: make(chan struct{}, 1),
			log: opts.Log.With("family", family.String()), metrics: m.of(family),
		})
	}
	return r, nil
}

// Programmed tells that from now on the rules of a family are those of services,
// which are those of snap but for what the kernel refused. It never blocks, and may be
// called from any goroutine.
func (r *Reconciler) Programmed(family ruleset.Family, snap *model.Snapshot, services *model.ServiceMap) {
	for _, w := range r.workers {
		if w.table.Family() == family {
			w.programmed(snap, services)
		}
	}
}

// Run works until ctx ends, and returns nil then. It may be called once.
func (r *Reconciler) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range r.workers {
		group.Go(func() error { return w.run(ctx) })
	}
	return group.Wait()
}
