package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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
	// clientPatience is how long a client waits for a new answer while an expired
	// one is at hand (RFC 8767 section 5).
	clientPatience = 1800 * time.Millisecond
	// maxWaiting bounds the questions that wait for an answer, as kubeadm's Corefile
	// does.
	maxWaiting = 1000
	// maxRefreshes bounds the answers that are being renewed before anybody waits
	// for them.
	maxRefreshes = 32
)

// Errors of Resolve. Any other says which upstreams failed, and how.
var (
	// ErrBusy means that too many questions are out already.
	ErrBusy = errors.New("too many questions are being forwarded")
	// ErrClientBusy means that too many questions of this client are.
	ErrClientBusy = fmt.Errorf("for this client %w", ErrBusy)
	// ErrNoUpstream means that there is nobody to ask.
	ErrNoUpstream = errors.New("no upstream resolver is known")
	// ErrLoop means that the question is one of our own that came back.
	ErrLoop = errors.New("an upstream resolver leads back to this server")
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

// Forwarder resolves names by asking upstream resolvers. Its methods may be
// called from any goroutine.
type Forwarder struct {
	log        *slog.Logger
	isSelf     func(netip.AddrPort) bool
	upstreams  upstreams
	groups     []*group // the last is for all names
	cache      *cache
	flights    flights
	background *background
	tickets    *tickets
	tcp        chan struct{}
	refreshes  chan *Answer
	refreshing chan struct{}
	probes     probes
	attempts   attempts
	patience   time.Duration
	metrics    metrics
}

// New makes a Forwarder. A file that cannot be read is no error: it may come
// later. The error names the option that cannot be used.
func New(o Options) (*Forwarder, error) {
	groups, err := newGroups(o)
	if err != nil {
		return nil, err
	}
	f := &Forwarder{
		log: o.Log, isSelf: o.IsSelf, groups: groups,
		cache:     newCache(maxCacheBytes),
		tickets:   newTickets(maxWaiting),
		tcp:       make(chan struct{}, maxTCP),
		refreshes: make(chan *Answer, maxRefreshes), refreshing: make(chan struct{}, maxRefreshes),
		attempts: attempts{timeout: attemptTimeout},
		patience: clientPatience,
	}
	if f.isSelf == nil {
		f.isSelf = func(netip.AddrPort) bool { return false }
	}
	f.metrics = newMetrics(o.Registerer, f.cache)
	f.background = newBackground(func(err error) {
		f.metrics.panics.Inc()
		f.log.Error("the search for an answer was lost to a fault in the server", "error", err)
	})
	return f, nil
}

// Run does what nobody waits for: it renews answers that are in use before they
// expire, and looks for upstreams that lead back here. It returns nil when ctx
// ends, after all searches have. Without it, questions are answered nevertheless.
func (f *Forwarder) Run(ctx context.Context) error {
	defer f.background.stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	f.probe(time.Now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-f.refreshes:
			f.refresh(a)
		case now := <-tick.C:
			f.probe(now)
		}
	}
}

// CachedWire returns the answer to a question if it is known without asking: one
// that is fresh, or an expired one while nobody can be asked. The name is in wire
// format, in lower case and not compressed. It takes no lock and allocates
// nothing.
func (f *Forwarder) CachedWire(name []byte, qtype uint16, flags Flags, now time.Time) (*Answer, bool) {
	a := f.cache.find(name, qtype, flags)
	if a == nil {
		return nil, false
	}
	s := a.stateAt(now)
	if s <= expired {
		return nil, false
	}
	if f.cache.used(a, s, now) {
		f.renew(a, s)
	}
	return a, true
}

// renew has Run ask for a new answer in the place of a.
func (f *Forwarder) renew(a *Answer, s state) {
	select {
	case f.refreshes <- a:
		if s == fresh {
			f.metrics.prefetches.Inc()
		}
	default:
		a.refreshing.Store(false) // somebody else will be as lucky
	}
}

// refresh asks for a new answer in the place of a, unless too many are being asked
// for.
func (f *Forwarder) refresh(a *Answer) {
	select {
	case f.refreshing <- struct{}{}:
	default:
		a.refreshing.Store(false)
		return
	}
	f.background.start(func() {
		defer func() { a.refreshing.Store(false); <-f.refreshing }()
		fl, _ := f.join(a.key)
		<-fl.done
	})
}

// Cached returns what CachedWire does, as an object: header and sections are the
// caller's.
func (f *Forwarder) Cached(q Query) (*dns.Msg, bool) {
	k, spelled, err := q.key()
	if err != nil {
		return nil, false
	}
	now := time.Now()
	a, ok := f.CachedWire([]byte(k.name), k.qtype, k.flags, now)
	if !ok {
		return nil, false
	}
	m, err := a.message(spelled, now)
	return m, err == nil
}

// Resolve returns what ResolveAnswer does, as an object: header and sections are
// the caller's. There is no OPT record among them.
func (f *Forwarder) Resolve(ctx context.Context, q Query) (*dns.Msg, error) {
	_, spelled, err := q.key()
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	a, err := f.ResolveAnswer(ctx, q)
	if err != nil {
		return nil, err
	}
	m, err := a.message(spelled, time.Now())
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", a.key, err)
	}
	return m, nil
}

// ResolveAnswer returns the answer to q, from the cache or from an upstream. It
// may be one that says that there is none: NXDOMAIN, or an upstream's SERVFAIL;
// and it may have expired, if no upstream has a newer one in time. When ctx ends,
// it returns; the search goes on for others who wait.
func (f *Forwarder) ResolveAnswer(ctx context.Context, q Query) (*Answer, error) {
	k, _, err := q.key()
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	if f.cameBack(k) {
		return nil, fmt.Errorf("resolve %s: %w", k, ErrLoop)
	}
	if a, ok := f.CachedWire([]byte(k.name), k.qtype, k.flags, time.Now()); ok {
		return a, nil
	}
	f.cache.misses.Add(1)
	if err := f.tickets.take(q.Client); err != nil {
		f.metrics.rejects.Inc()
		return nil, fmt.Errorf("resolve %s: %w", k, err)
	}
	defer f.tickets.put(q.Client)
	a, err := f.await(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", k, err)
	}
	return a, nil
}

// await waits for the answer to k, but no longer than a client's patience if
// there is an expired one.
func (f *Forwarder) await(ctx context.Context, k key) (*Answer, error) {
	var impatient <-chan time.Time
	old := f.cache.find([]byte(k.name), k.qtype, k.flags)
	if old != nil && old.stateAt(time.Now()) == gone {
		old = nil
	}
	if old != nil {
		timer := time.NewTimer(f.patience)
		defer timer.Stop()
		impatient = timer.C
	}
	fl, shared := f.join(k)
	if shared {
		f.metrics.coalesced.Inc()
	}
	select {
	case <-fl.done:
		if old != nil && (fl.err != nil || fl.answer.kind == failure) {
			f.cache.countStale(old)
			return old, nil
		}
		return fl.answer, fl.err
	case <-impatient:
		f.cache.countStale(old)
		return old, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// groupOf returns whom to ask for name, in lower case and fully qualified.
func (f *Forwarder) groupOf(name string) *group {
	for _, g := range f.groups {
		if dns.IsSubDomain(g.domain, name) {
			return g
		}
	}
	return f.groups[len(f.groups)-1]
}
