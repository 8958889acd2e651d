package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
)

// ReasonNotServed is that of the event on a Service whose health check cannot be
// served on this node: kube-proxy's.
const ReasonNotServed = "FailedToStartServiceHealthcheck"

// retryEvery is how often a port that another process has is tried again and, if not all addresses
// answer, how often the node's are looked at.
const retryEvery = 5 * time.Second

// Snapshots is where a Server learns of the cluster.
type Snapshots interface {
	// Snapshot returns the newest Snapshot, or nil while it is not complete.
	Snapshot() *model.Snapshot
	// Subscribe returns a new channel that holds one signal, sent after each
	// publication.
	Subscribe() <-chan struct{}
}

// Events tells the owners of Services.
type Events interface {
	ServiceWarning(svc *model.Service, reason, message string)
}

// Options are what a Server needs.
type Options struct {
	Snapshots Snapshots
	// Behind returns how long changes have waited for their rules.
	Behind func() time.Duration
	// At returns the ranges of the node's addresses of a family that answer at node ports; one
	// of no bits if all do. It must be pure.
	At     func(node *model.Node, ipv4 bool) []netip.Prefix
	Events Events
	Log    *slog.Logger
}

// Server answers at the health check ports of all Services that have one.
type Server struct {
	opts Options
	// sockets is for Run alone.
	sockets map[netip.AddrPort]*listener
	done    sync.WaitGroup
}

// listener is an address and port that is, or should be, listened on.
type listener struct {
	name   model.Name
	server *http.Server // nil while the port cannot be had
	failed bool         // which was said
}

// New returns a Server that does nothing until Run.
func New(o Options) *Server { return &Server{opts: o, sockets: map[netip.AddrPort]*listener{}} }

// Run answers until ctx ends, and returns nil then. It may be called once. A port that cannot
// be had is named in an event on its Service, is tried again, and keeps no other from
// being served. Sockets belong to the network namespace of the calling thread.
func (s *Server) Run(ctx context.Context) error {
	changed := s.opts.Snapshots.Subscribe()
	defer s.done.Wait()
	for {
		final := true
		if snap := s.opts.Snapshots.Snapshot(); snap != nil {
			final = s.reconcile(ctx, snap)
		}
		var again <-chan time.Time
		if !final {
			again = time.After(retryEvery)
		}
		select {
		case <-ctx.Done():
			for _, l := range s.sockets {
				l.close()
			}
			return nil
		case <-changed:
		case <-again:
		}
	}
}

// wanted returns what is whose. Of several Services that want one port, which the API
// server does not let happen, the first by name gets it.
func wanted(s *model.Snapshot, at *addresses) map[netip.AddrPort]*model.Service {
	out := map[netip.AddrPort]*model.Service{}
	for _, svc := range s.Services.All() {
		if svc.HealthCheckNodePort == 0 || svc.OtherProxy {
			continue
		}
		for _, ip := range svc.ClusterIPs {
			for _, a := range at.of(ip.Is4()) {
				p := netip.AddrPortFrom(a, svc.HealthCheckNodePort)
				if other := out[p]; other == nil || svc.Compare(other.Name) < 0 {
					out[p] = svc
				}
			}
		}
	}
	return out
}

// reconcile brings what is listened on into line, and reports whether that holds until the
// next Snapshot.
func (s *Server) reconcile(ctx context.Context, snap *model.Snapshot) bool {
	at, err := s.addresses(&snap.Node)
	if err != nil {
		s.opts.Log.Warn("cannot tell where load balancers may ask for endpoints", "error", err)
		return false
	}
	want := wanted(snap, &at)
	for p, l := range s.sockets {
		if svc := want[p]; svc == nil || svc.Name != l.name {
			l.close()
			delete(s.sockets, p)
		}
	}
	final := !at.some
	for _, p := range slices.SortedFunc(maps.Keys(want), netip.AddrPort.Compare) {
		l := s.sockets[p]
		if l == nil {
			l = &listener{name: want[p].Name}
			s.sockets[p] = l
		}
		if l.server != nil {
			continue
		}
		if err := s.listen(ctx, p, l); err != nil {
			final = false
			s.complain(p, l, want[p], snap.Node.Name, err)
		}
	}
	return final
}

// complain says, once until it works again, that a port cannot be had.
func (s *Server) complain(at netip.AddrPort, l *listener, svc *model.Service, node string, err error) {
	if l.failed {
		return
	}
	l.failed = true
	s.opts.Log.Warn("load balancers cannot ask for a Service's endpoints on this node", "service", l.name.String(), "at", at.String(), "error", err)
	s.opts.Events.ServiceWarning(svc, ReasonNotServed, fmt.Sprintf("node %s cannot answer at health check port %d: %v", node, at.Port(), err))
}

func (s *Server) listen(ctx context.Context, at netip.AddrPort, l *listener) error {
	network := "tcp6"
	if at.Addr().Is4() {
		network = "tcp4"
	}
	socket, err := (&net.ListenConfig{}).Listen(ctx, network, at.String())
	if err != nil {
		return err
	}
	l.failed = false
	l.server = &http.Server{Handler: s.answer(l.name, at.Addr().Is4()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	server := l.server
	s.done.Go(func() {
		// Nothing but close ends it.
		if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			s.opts.Log.Error("a health check port is no longer answered at", "at", at.String(), "error", err)
		}
	})
	return nil
}

func (l *listener) close() {
	if l.server != nil {
		_ = l.server.Close()
	}
}

// answer says how many endpoints there are by the newest Snapshot.
func (s *Server) answer(name model.Name, ipv4 bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		snap := s.opts.Snapshots.Snapshot()
		local := 0
		if svc := snap.Services.Get(name); svc != nil {
			local = localEndpoints(svc, snap.Node.Name, ipv4)
		}
		write(w, name, local, s.opts.Behind() < Late)
	})
}
