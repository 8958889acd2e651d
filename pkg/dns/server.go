package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/dns/forward"
	"github.com/signpost-dev/signpost/pkg/dns/packed"
	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/model"
)

// Defaults of Options.
const (
	DefaultDomain = "cluster.local"
	// DefaultPeerPort is the customary PeerPort; the zero value means none.
	DefaultPeerPort = 10053
)

// DefaultService is the Service by which pods know their DNS server.
func DefaultService() model.Name { return model.Name{Namespace: "kube-system", Name: "kube-dns"} }

// linkLocal is an address for pods and processes that must have one that is the
// same in every cluster. It is the one of NodeLocal DNSCache.
func linkLocal() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 20, 10}) }

// Snapshots is where a Server learns of the cluster.
type Snapshots interface {
	// Snapshot returns the newest Snapshot, or nil while it is not complete.
	Snapshot() *model.Snapshot
	// Subscribe returns a new channel that holds one signal, sent after each
	// publication.
	Subscribe() <-chan struct{}
}

// OwnPods knows the pods of this node.
type OwnPods interface {
	// Addresses returns what addresses they have. The map is never changed.
	Addresses() map[model.PodAddress]struct{}
	// Subscribe returns a new channel that holds one signal, sent after each change
	// of Addresses.
	Subscribe() <-chan struct{}
}

// Options are what a Server needs.
type Options struct {
	Snapshots Snapshots
	// Rules are those that lead to cluster IPs: the name of a Service is answered
	// once they know its address, or after AwaitRules. nil if nobody makes any.
	Rules      Rules
	AwaitRules time.Duration
	// Clients, if not nil, makes the server walk the search lists of the pods that it
	// knows. ResolvConf is then the resolv.conf file that the kubelet of this node adds
	// the search list of to those of pods.
	Clients    Clients
	ResolvConf string
	// QueryLog, if not nil, has each query logged, with the pod that asks if it knows
	// that. Everything then takes the long way.
	QueryLog Clients
	// Domain is the cluster's domain, DefaultDomain if empty.
	Domain string
	// Service is the Service whose cluster IPs the server answers at, and that the
	// zone's NS record names. DefaultService if empty.
	Service model.Name
	// Listen, if not empty, replaces the cluster IPs and 169.254.20.10, port 53, as
	// the addresses to answer at.
	Listen []netip.AddrPort
	// AddressesAreLocal says that all addresses are on the node already, and that
	// none shall be put there. Without it they are put onto the loopback interface,
	// which takes CAP_NET_ADMIN.
	AddressesAreLocal bool
	// PeerPort is the port on the node's own addresses at which the server answers
	// in place of other nodes' servers. 0 for none.
	PeerPort uint16
	// ClientRanges are the addresses that are answered, beside the node's own
	// and its pods'. If empty they are the private ones, and those near to the node's.
	ClientRanges []netip.Prefix
	// TTL of records of the cluster, in whole seconds, up to an hour.
	TTL time.Duration
	// Pods is how names of pods are answered; verified takes OwnPods.
	Pods    records.PodMode
	OwnPods OwnPods
	// NearFirst has the addresses of headless Services begin with those nearest to this node.
	NearFirst bool
	// Upstreams and StubDomains say whom to ask for other names; see forward.Options.
	Upstreams   []string
	StubDomains map[string][]string
	Registerer  prometheus.Registerer
	Log         *slog.Logger
}

// Server answers the questions of a node's pods. Make one with New.
type Server struct {
	opts      Options
	log       *slog.Logger
	book      atomic.Pointer[packed.Book]
	forwarder *forward.Forwarder
	searcher  *searcher
	metrics   *metrics
	limits    limits
	// connectable is for Run alone.
	connectable connectable
	// podless is for Run alone: what the Snapshot that answers are made from was
	// before the addresses of pods were added.
	podless *model.Snapshot
	waiters *waiters
	conns   connCounter
	// port is where clients expect a DNS server. Tests have another.
	port uint16

	mu       sync.Mutex
	serving  []netip.AddrPort
	unserved error
}

var (
	errStopped    = errors.New("the DNS server is not running")
	errNoSnapshot = errors.New("nothing is known of the cluster yet")
)

// New makes a Server, which does nothing yet. The error names the option that
// cannot be used.
func New(o Options) (*Server, error) {
	if o.Domain == "" {
		o.Domain = DefaultDomain
	}
	if o.Service == (model.Name{}) {
		o.Service = DefaultService()
	}
	if o.TTL < 0 || o.TTL%time.Second != 0 || o.TTL > records.MaxTTL*time.Second {
		return nil, fmt.Errorf("ttl: %v is not a number of seconds between 0s and %v", o.TTL, records.MaxTTL*time.Second)
	}
	view, err := records.New(records.Options{Domain: o.Domain, TTL: uint32(o.TTL / time.Second), Pods: o.Pods, Server: o.Service, NearFirst: o.NearFirst})
	if err != nil {
		return nil, err
	}
	if o.Pods != records.PodsVerified {
		o.OwnPods = nil // for nothing depends on them
	} else if o.OwnPods == nil {
		return nil, errors.New("pods: nobody knows the pods of this node, by which names would be verified")
	}
	s := &Server{opts: o, log: o.Log, limits: defaultLimits(), port: 53, unserved: errStopped}
	s.connectable.patience = o.AwaitRules
	s.book.Store(packed.New(view, keptBytes))
	s.forwarder, err = forward.New(forward.Options{
		Upstreams: o.Upstreams, StubDomains: o.StubDomains, IsSelf: s.isSelf, Registerer: o.Registerer, Log: o.Log})
	if err != nil {
		return nil, err
	}
	s.searcher = newSearcher(&o)
	s.metrics = newMetrics(o.Registerer)
	return s, nil
}

// Run answers until ctx ends. Then the addresses that were put onto the node go,
// what had come before is answered, and all sockets are closed, within a second or
// so. That an address is not gone is the only error that it returns. It may be called
// once.
//
// Before the first Snapshot it answers SERVFAIL for the names of the cluster,
// and is not to be found at the cluster IPs, so that others answer there.
func (s *Server) Run(ctx context.Context) error {
	s.waiters = newWaiters(s.limits.waiting, s.metrics.waiting, s.guard)
	s.conns = connCounter{max: s.limits.tcpConns, maxPerClient: s.limits.tcpConnsPerClient, byClient: map[netip.Addr]int{}}
	// What has been asked when ctx ends is answered yet.
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	var forwarding sync.WaitGroup
	forwarding.Go(func() { _ = s.forwarder.Run(serving) }) // it returns nil when serving ends
	defer forwarding.Wait()
	defer s.waiters.wg.Wait()
	defer end()
	b := newBindings(s)
	changes := s.opts.Snapshots.Subscribe()
	var progress, pods <-chan struct{}
	if s.opts.Rules != nil {
		progress = s.opts.Rules.Progress()
	}
	if s.opts.OwnPods != nil {
		pods = s.opts.OwnPods.Subscribe()
	}
	for {
		again := s.publish(time.Now())
		retry := time.NewTimer(min(again, b.reconcile(serving, time.Now())))
		select {
		case <-ctx.Done():
			return b.close(end)
		case <-changes:
		case <-progress:
		case <-pods:
		case <-b.failed:
		case <-retry.C:
		}
		retry.Stop()
	}
}

// publish makes the newest Snapshot the one that answers are made from, without
// the names that nobody could connect to yet. It returns how long that is right.
func (s *Server) publish(now time.Time) (again time.Duration) {
	again = time.Hour
	book, snapshot := s.book.Load(), s.opts.Snapshots.Snapshot()
	if snapshot == nil {
		return again
	}
	if s.opts.Rules != nil {
		next, at := s.connectable.next(snapshot, s.opts.Rules.Programmed(), now)
		s.metrics.held.Set(float64(s.connectable.held))
		if snapshot = next; !at.IsZero() {
			again = at.Sub(now)
		}
	}
	older := book.View().Snapshot()
	if snapshot = s.withPods(snapshot, older); snapshot != older {
		s.book.Store(book.Next(snapshot, uint32(now.Unix())))
		s.metrics.programmed(older, snapshot, time.Now())
	}
	return again
}

// withPods returns the Snapshot with the addresses of this node's pods, if they
// matter, and was if that is the same. Only Run calls it.
func (s *Server) withPods(snapshot, was *model.Snapshot) *model.Snapshot {
	if s.opts.OwnPods == nil {
		return snapshot
	}
	pods := s.opts.OwnPods.Addresses()
	if snapshot == s.podless && was != nil && maps.Equal(pods, was.Pods) {
		return was
	}
	s.podless = snapshot
	out := *snapshot
	out.Pods = pods
	return &out
}

func (s *Server) view() *records.View { return s.book.Load().View() }

// Answered returns the generation of the snapshot that answers are made from; 0
// before the first. It is safe for concurrent use.
func (s *Server) Answered() uint64 {
	if snapshot := s.view().Snapshot(); snapshot != nil {
		return snapshot.Generation
	}
	return 0
}

// Serving returns the addresses that are listened on now, sorted.
func (s *Server) Serving() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.serving)
}

// Ready returns nil once the names of the cluster are known and answered at every
// address that should be listened on, those for peers excepted; else what is
// missing.
func (s *Server) Ready() error {
	if s.view().Snapshot() == nil {
		return errNoSnapshot
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unserved
}

func (s *Server) setServing(addrs []netip.AddrPort, unserved error) {
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving, s.unserved = addrs, unserved
}

func (s *Server) isSelf(addr netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.serving, addr)
}

// guard calls f and survives its panic: packets and rules of the node are made in
// the same process.
func (s *Server) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.panics.Inc()
			s.log.Error("a request was lost to a fault in the server", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	f()
}
