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

// retryEvery is how often a port that another process has is tried again.
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
	// At reports whether the node's address answers at node ports.
	At     func(node *model.Node, addr netip.Addr) bool
	Events Events
	Log    *slog.Logger
}

// Server answers at the health check ports of all Services that have one.
type Server struct {
	opts Options
	// ports is for Run alone.
	ports map[port]*listener
	done  sync.WaitGroup
}

// port is one to listen on, for one family.
type port struct {
	number uint16
	ipv4   bool
}

func (p port) network() string {
	if p.ipv4 {
		return "tcp4"
	}
	return "tcp6"
}

// listener is a port that is, or should be, listened on.
type listener struct {
	name   model.Name
	server *http.Server // nil while the port cannot be had
	failed bool         // which was said
}

// New returns a Server that does nothing until Run.
func New(o Options) *Server { return &Server{opts: o, ports: map[port]*listener{}} }

// Run answers until ctx ends, and returns nil then. It may be called once. A port that cannot
// be had is named in an event on its Service, is tried again, and keeps no other from
// being served. Sockets belong to the network namespace of the calling thread.
func (s *Server) Run(ctx context.Context) error {
	changed := s.opts.Snapshots.Subscribe()
	defer s.done.Wait()
	for {
		complete := true
		if snap := s.opts.Snapshots.Snapshot(); snap != nil {
			complete = s.reconcile(ctx, snap)
		}
		var again <-chan time.Time
		if !complete {
			again = time.After(retryEvery)
		}
		select {
		case <-ctx.Done():
			for _, l := range s.ports {
				l.close()
			}
			return nil
		case <-changed:
		case <-again:
		}
	}
}

// wanted returns which port is whose. Of several Services that want one, which the API
// server does not let happen, the first by name gets it.
func wanted(s *model.Snapshot) map[port]*model.Service {
	out := map[port]*model.Service{}
	for _, svc := range s.Services.All() {
		if svc.HealthCheckNodePort == 0 || svc.OtherProxy {
			continue
		}
		for _, a := range svc.ClusterIPs {
			p := port{svc.HealthCheckNodePort, a.Is4()}
			if other := out[p]; other == nil || svc.Compare(other.Name) < 0 {
				out[p] = svc
			}
		}
	}
	return out
}

// reconcile brings what is listened on into line, and reports whether that is all there should be.
func (s *Server) reconcile(ctx context.Context, snap *model.Snapshot) bool {
	want := wanted(snap)
	for p, l := range s.ports {
		if svc := want[p]; svc == nil || svc.Name != l.name {
			l.close()
			delete(s.ports, p)
		}
	}
	complete := true
	byNumber := func(a, b port) int { return int(a.number) - int(b.number) }
	for _, p := range slices.SortedFunc(maps.Keys(want), byNumber) {
		l := s.ports[p]
		if l == nil {
			l = &listener{name: want[p].Name}
			s.ports[p] = l
		}
		if l.server != nil {
			continue
		}
		if err := s.listen(ctx, p, l); err != nil {
			complete = false
			if !l.failed {
				l.failed = true
				s.opts.Log.Warn("load balancers cannot ask for a Service's endpoints on this node", "service", l.name.String(), "port", p.number, "error", err)
				s.opts.Events.ServiceWarning(want[p], ReasonNotServed, fmt.Sprintf("node %s cannot answer at health check port %d: %v", snap.Node.Name, p.number, err))
			}
		}
	}
	return complete
}

func (s *Server) listen(ctx context.Context, p port, l *listener) error {
	at := netip.AddrPortFrom(netip.IPv6Unspecified(), p.number)
	if p.ipv4 {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), p.number)
	}
	socket, err := (&net.ListenConfig{}).Listen(ctx, p.network(), at.String())
	if err != nil {
		return err
	}
	l.failed = false
	l.server = &http.Server{Handler: s.answer(l.name, p.ipv4), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	server := l.server
	s.done.Go(func() {
		// Nothing but close ends it.
		if err := server.Serve(nodePorts{socket, s}); !errors.Is(err, http.ErrServerClosed) {
			s.opts.Log.Error("a health check port is no longer answered at", "port", p.number, "error", err)
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

// nodePorts accepts connections to those addresses only that node ports are served at.
type nodePorts struct {
	net.Listener
	server *Server
}

// Accept is that of a net.Listener.
func (n nodePorts) Accept() (net.Conn, error) {
	for {
		c, err := n.Listener.Accept()
		if err != nil {
			return nil, err
		}
		at := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if n.server.opts.At(&n.server.opts.Snapshots.Snapshot().Node, at) {
			return c, nil
		}
		_ = c.Close()
	}
}
