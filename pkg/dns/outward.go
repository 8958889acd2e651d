package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	"github.com/signpost-dev/signpost/pkg/dns/outside"
)

const (
	// outwardConns bounds the TCP connections of one address, outwardIdle how long one
	// may be silent. Whoever is outside has a resolver, which needs few.
	outwardConns = 64
	outwardIdle  = 5 * time.Second
	// outwardRetry is the pause after an address could not be listened at, and the
	// time between two looks at which addresses the node has.
	outwardRetry = 5 * time.Second
)

// OutwardOptions are what an Outward needs.
type OutwardOptions struct {
	Snapshots Snapshots
	Zone      *outside.Zone
	// Port is where it answers, at all addresses of the node.
	Port       uint16
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Outward answers for the zone of the world outside, and for nothing else, whoever
// asks: what it says is meant for all. An answer is never larger than the few records
// of one Service, so that it is of little use to who forges questions in the name of
// others. Make one with NewOutward.
type Outward struct {
	opts    OutwardOptions
	answers *prometheus.CounterVec

	// These are of Run alone.
	open   map[netip.Addr]*outwardListener
	failed map[netip.Addr]string
}

type outwardListener struct {
	servers [2]*dns.Server
	wg      sync.WaitGroup
}

// NewOutward returns an Outward for one Run.
func NewOutward(o OutwardOptions) *Outward {
	s := &Outward{
		opts: o, open: map[netip.Addr]*outwardListener{}, failed: map[netip.Addr]string{},
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_dns_outside_responses_total", Help: "Responses to questions from outside of the cluster, by response code.",
		}, []string{"rcode"}),
	}
	o.Registerer.MustRegister(s.answers)
	return s
}

// Run answers until ctx ends, and returns nil then. An address that cannot be
// listened at is tried again, and keeps none of the others from being served.
func (s *Outward) Run(ctx context.Context) error {
	changes := s.opts.Snapshots.Subscribe()
	ticker := time.NewTicker(outwardRetry)
	defer ticker.Stop()
	for {
		s.reconcile(ctx)
		select {
		case <-ctx.Done():
			for addr, l := range s.open {
				s.close(addr, l)
			}
			return nil
		case <-changes:
		case <-ticker.C:
		}
	}
}

// reconcile listens at the addresses that the node has now.
func (s *Outward) reconcile(ctx context.Context) {
	snapshot := s.opts.Snapshots.Snapshot()
	if snapshot == nil {
		return
	}
	wanted := map[netip.Addr]bool{}
	for _, addr := range snapshot.Node.Addrs {
		wanted[addr] = true
	}
	for addr, l := range s.open {
		if !wanted[addr] {
			s.close(addr, l)
		}
	}
	for addr := range wanted {
		if s.open[addr] != nil {
			continue
		}
		l, err := s.listen(ctx, netip.AddrPortFrom(addr, s.opts.Port))
		if err != nil {
			if err.Error() != s.failed[addr] {
				s.opts.Log.Warn("cannot answer the world outside at one address; trying again", "address", addr, "error", err)
			}
			s.failed[addr] = err.Error()
			continue
		}
		delete(s.failed, addr)
		s.open[addr] = l
		s.opts.Log.Info("answering the world outside", "address", addr, "port", s.opts.Port)
	}
}

func (s *Outward) listen(ctx context.Context, at netip.AddrPort) (*outwardListener, error) {
	config := net.ListenConfig{Control: reusePort}
	stream, err := config.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	packet, err := config.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, errors.Join(err, stream.Close())
	}
	l := &outwardListener{servers: [2]*dns.Server{
		{Listener: netutil.LimitListener(stream, outwardConns), Handler: s, IdleTimeout: func() time.Duration { return outwardIdle }},
		{PacketConn: packet, Handler: s, UDPSize: maxUDPSize},
	}}
	for _, server := range l.servers {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		l.wg.Go(func() {
			if err := server.ActivateAndServe(); err != nil {
				s.opts.Log.Warn("no longer answering the world outside", "address", at, "error", err)
			}
		})
		<-started // a server that has not started cannot be shut down
	}
	return l, nil
}

func (s *Outward) close(addr netip.Addr, l *outwardListener) {
	for _, server := range l.servers {
		if err := server.Shutdown(); err != nil {
			s.opts.Log.Warn("cannot stop answering the world outside", "address", addr, "error", err)
		}
	}
	l.wg.Wait()
	delete(s.open, addr)
}

// ServeDNS implements dns.Handler. What is no question has been turned away before.
func (s *Outward) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := s.answer(r)
	size := maxTCPSize
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size = minUDPSize
		if opt := r.IsEdns0(); opt != nil {
			size = int(min(max(opt.UDPSize(), minUDPSize), maxUDPSize))
		}
	}
	m.Truncate(size)
	s.answers.WithLabelValues(rcodeText(m.Rcode)).Inc()
	if err := w.WriteMsg(m); err != nil {
		s.opts.Log.Debug("cannot send an answer to the world outside", "error", err)
	}
}

func (s *Outward) answer(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	opt := r.IsEdns0()
	if opt != nil {
		m.SetEdns0(maxUDPSize, opt.Do())
	}
	switch {
	case len(r.Question) != 1:
		m.Rcode = dns.RcodeFormatError
		return m
	case opt != nil && opt.Version() != 0:
		m.Rcode = dns.RcodeBadVers
		return m
	case r.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
		return m
	case r.Question[0].Qclass != dns.ClassINET:
		m.Rcode = dns.RcodeRefused
		return m
	}
	q := r.Question[0]
	a := s.opts.Zone.Answer(s.opts.Snapshots.Snapshot(), uint32(time.Now().Unix()), q.Name, q.Qtype)
	m.Rcode, m.Answer, m.Ns = a.Rcode, a.Answer, a.Ns
	m.Extra = append(a.Extra, m.Extra...)
	m.Authoritative = a.Rcode == dns.RcodeSuccess || a.Rcode == dns.RcodeNameError
	return m
}
