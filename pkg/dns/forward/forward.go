package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// totalTimeout bounds the whole search for an answer. Clients give up after
	// five seconds, by the default of resolv.conf(5).
	totalTimeout = 5 * time.Second
	// attemptTimeout bounds the wait for one upstream.
	attemptTimeout = 2 * time.Second
	// maxInFlight bounds the different questions that are out at a time.
	maxInFlight = 1000
	// maxCacheBytes bounds the memory of the cache.
	maxCacheBytes = 8 << 20
)

// Errors of Resolve. Any other says which upstreams failed, and how.
var (
	// ErrBusy means that too many questions are out already.
	ErrBusy = errors.New("too many questions are being forwarded")
	// ErrNoUpstream means that there is nobody to ask.
	ErrNoUpstream = errors.New("no upstream resolver is known")
)

// Options are what a Forwarder needs.
type Options struct {
	// Upstreams are asked in this order, for all that StubDomains do not name.
	// Each is an IP address with or without a port, or the path of a file in the
	// format of resolv.conf(5), which is read again when it changes.
	Upstreams []string
	// StubDomains maps a domain to the upstreams for the names in it. Where
	// several fit, the longest wins.
	StubDomains map[string][]string
	// IsSelf reports whether an address is one that this process itself answers
	// at: such an upstream is left out, or a question would go in circles. It is
	// called for each question. May be nil.
	IsSelf     func(netip.AddrPort) bool
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Query is a question in class IN, with what of its flags decides the answer.
type Query struct {
	Name             string
	Type             uint16
	RecursionDesired bool
	CheckingDisabled bool
	// DNSSEC asks for signatures (the DO bit).
	DNSSEC bool
}

// Forwarder resolves names by asking upstream resolvers. Its methods may be
// called from any goroutine.
type Forwarder struct {
	log       *slog.Logger
	isSelf    func(netip.AddrPort) bool
	upstreams *upstreams
	rest      *group
	stubs     []stub
	cache     *cache
	flights   flights
	inFlight  chan struct{}
	attempt   time.Duration
	metrics   metrics
}

// stub is a domain with upstreams of its own.
type stub struct {
	domain string // lower case, fully qualified
	group  *group
}

// New makes a Forwarder. A file that cannot be read is no error: it may come
// later. The error names the option that cannot be used.
func New(o Options) (*Forwarder, error) {
	f := &Forwarder{
		log:       o.Log,
		isSelf:    o.IsSelf,
		upstreams: &upstreams{},
		cache:     newCache(maxCacheBytes),
		inFlight:  make(chan struct{}, maxInFlight),
		attempt:   attemptTimeout,
	}
	if f.isSelf == nil {
		f.isSelf = func(netip.AddrPort) bool { return false }
	}
	f.metrics = newMetrics(o.Registerer, f.cache)
	var err error
	if f.rest, err = newGroup(o.Upstreams, o.Log); err != nil {
		return nil, fmt.Errorf("upstreams: %w", err)
	}
	if f.stubs, err = newStubs(o); err != nil {
		return nil, fmt.Errorf("stubDomains: %w", err)
	}
	return f, nil
}

// Cached returns the answer to q if it is known without asking.
func (f *Forwarder) Cached(q Query) (*dns.Msg, bool) {
	spelled := q.Name
	q.Name = dns.CanonicalName(q.Name)
	m, ok := f.cache.get(q, time.Now())
	if !ok {
		return nil, false
	}
	f.metrics.cacheHits.Inc()
	return spell(m, q.Name, spelled), true
}

// Resolve returns the answer to q, from the cache or from an upstream. It may be
// one that says that there is none: NXDOMAIN, or an upstream's SERVFAIL. Header
// and sections are the caller's, except for the records themselves, which must
// not be changed; there is no OPT record among them.
//
// The question is asked for all who wait for it at the time, so ctx should end
// only when the whole process gives up.
func (f *Forwarder) Resolve(ctx context.Context, q Query) (*dns.Msg, error) {
	if m, ok := f.Cached(q); ok {
		return m, nil
	}
	f.metrics.cacheMisses.Inc()
	spelled := q.Name
	q.Name = dns.CanonicalName(q.Name)
	m, shared, err := f.flights.do(ctx, q, func() (*dns.Msg, error) { return f.ask(ctx, q) })
	if shared {
		f.metrics.coalesced.Inc()
	}
	if err != nil {
		return nil, fmt.Errorf("resolve %s %s: %w", q.Name, dns.TypeToString[q.Type], err)
	}
	return spell(m, q.Name, spelled), nil
}

// ask finds an answer to q and puts it into the cache.
func (f *Forwarder) ask(ctx context.Context, q Query) (*dns.Msg, error) {
	select {
	case f.inFlight <- struct{}{}:
		defer func() { <-f.inFlight }()
	default:
		return nil, ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	m, err := f.askAll(ctx, q)
	if err != nil {
		return nil, err
	}
	f.cache.put(q, m, time.Now())
	return m, nil
}

// askAll asks one upstream after the other, each at most once and a lone one
// twice, until one has an answer. An upstream's refusal is returned only if
// nobody knew better.
func (f *Forwarder) askAll(ctx context.Context, q Query) (*dns.Msg, error) {
	order := f.candidates(q.Name)
	if len(order) == 0 {
		return nil, ErrNoUpstream
	}
	if len(order) == 1 {
		order = append(order, order[0])
	}
	var refusal *dns.Msg
	var errs []error
	for _, u := range order {
		m, err := f.askOne(ctx, u, q)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("upstream %s: %w", u.addr, err))
		case isRefusal(m):
			refusal = m
		default:
			return m, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	if refusal != nil {
		return refusal, nil
	}
	return nil, errors.Join(errs...)
}

// isRefusal reports whether another upstream may know better.
func isRefusal(m *dns.Msg) bool {
	return m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError
}

func (f *Forwarder) askOne(ctx context.Context, u *upstream, q Query) (*dns.Msg, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, f.attempt)
	defer cancel()
	m, err := f.exchange(ctx, u.addr, q)
	u.report(err == nil, time.Now())
	f.metrics.observe(u.addr, m, err, time.Since(start))
	return m, err
}

// candidates returns the upstreams for name in the order to ask them: those that
// answered lately first.
func (f *Forwarder) candidates(name string) []*upstream {
	now := time.Now()
	var up, down []*upstream
	for _, addr := range f.groupOf(name).addrs(now) {
		u := f.upstreams.get(addr)
		switch {
		case f.isSelf(addr):
			u.warnOfSelf(f.log)
		case u.isDown(now, f.attempt):
			down = append(down, u)
		default:
			up = append(up, u)
		}
	}
	return append(up, down...)
}

func (f *Forwarder) groupOf(name string) *group {
	for _, s := range f.stubs {
		if dns.IsSubDomain(s.domain, name) {
			return s.group
		}
	}
	return f.rest
}

// spell returns a copy of m whose records of the name asked for have it as the
// client wrote it.
func spell(m *dns.Msg, name, spelled string) *dns.Msg {
	out := *m
	out.Answer, out.Ns, out.Extra = slices.Clip(m.Answer), slices.Clip(m.Ns), slices.Clip(m.Extra)
	if name == spelled {
		return &out
	}
	out.Answer = make([]dns.RR, len(m.Answer))
	for i, rr := range m.Answer {
		if dns.CanonicalName(rr.Header().Name) == name {
			rr = dns.Copy(rr)
			rr.Header().Name = spelled
		}
		out.Answer[i] = rr
	}
	return &out
}
