package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

const (
	// DefaultPort is the port that daemons listen at.
	DefaultPort = 10263
	// silentStays is how long a node is still probed that is silent and no longer
	// among those that run Signpost: it may be no longer among them because it is
	// silent.
	silentStays = 10 * time.Minute
	// atOnce bounds how many nodes are asked at the same time.
	atOnce = 256
)

// Roster are the nodes that run Signpost, by name, each with the address that it
// is reached at. All nodes should come to the same Roster, as it says who probes
// whom. It is not changed any more.
type Roster struct {
	Addrs map[string]netip.Addr
}

// Options are what Peers are made of.
type Options struct {
	// NodeName is this node's.
	NodeName string
	// Port is that of all nodes, 1 to 65535.
	Port uint16
	// Listen returns the addresses of this node to answer at. Those that it does
	// not have are tried again.
	Listen func() []netip.Addr
	// Nodes returns the nodes that run Signpost, nil if that is not known. It is
	// called once a second, one call after the other; the same pointer means that
	// nothing has changed.
	Nodes func() *Roster
	// Watermark returns what the node has programmed, for Ask of others. It must be
	// safe for concurrent use and not block.
	Watermark func() uint64
	// Finding returns what the node finds of a backend of a Service, for Findings of
	// others. It must be safe for concurrent use and not block.
	Finding    func(backend [16]byte) Finding
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Peers answers other nodes, probes some of them, and asks them. Its methods may
// be called from anywhere and at any time, also while it does not run: then nobody
// is known.
type Peers struct {
	options Options
	metrics *metrics

	mu     sync.Mutex
	roster *Roster
	ring   ring
	all    bool
	ended  bool
	// lines are to the nodes that are probed, by name and by address.
	lines     map[string]*line
	byAddress map[netip.Addr]*line
	// left is since when a silent node has not been in the roster.
	left      map[string]time.Time
	listeners *listeners
}

// New returns Peers for one Run.
func New(o Options) (*Peers, error) {
	if o.NodeName == "" || o.Port == 0 || o.Listen == nil || o.Nodes == nil || o.Watermark == nil || o.Finding == nil || o.Registerer == nil || o.Log == nil {
		return nil, errors.New("peers: NodeName, Port, Listen, Nodes, Watermark, Finding, Registerer and Log are needed")
	}
	p := &Peers{
		options: o, roster: &Roster{},
		lines: map[string]*line{}, byAddress: map[netip.Addr]*line{}, left: map[string]time.Time{},
	}
	m, err := newMetrics(o.Registerer, p.count)
	if err != nil {
		return nil, fmt.Errorf("peers: register metrics: %w", err)
	}
	p.metrics = m
	p.listeners = newListeners(o, m, p.opinionOf)
	return p, nil
}

// Run answers and probes until ctx is done, and returns nil then. It must be
// called once.
func (p *Peers) Run(ctx context.Context) error {
	defer p.stop()
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		p.listeners.follow(ctx)
		p.follow(time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			p.probe()
		}
	}
}

func (p *Peers) stop() {
	p.listeners.close()
	p.mu.Lock()
	lines := slices.Collect(maps.Values(p.lines))
	p.lines, p.byAddress, p.ended = map[string]*line{}, map[netip.Addr]*line{}, true
	p.mu.Unlock()
	for _, l := range lines {
		l.close()
	}
}

// ProbeAll says whether to probe all nodes, as a leader does, or only the next on
// the ring.
func (p *Peers) ProbeAll(all bool) {
	p.mu.Lock()
	p.all = all
	p.mu.Unlock()
	p.follow(time.Now())
}

// follow makes the lines that the roster asks for and closes the others.
func (p *Peers) follow(now time.Time) {
	for _, l := range p.follows(now) {
		l.close()
	}
}

func (p *Peers) follows(now time.Time) (closed []*line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	if roster := p.options.Nodes(); roster != nil && roster != p.roster {
		p.roster = roster
		p.ring = newRing(append(slices.Collect(maps.Keys(roster.Addrs)), p.options.NodeName))
	}
	wanted := p.wanted()
	for name, l := range p.lines {
		if address, ok := wanted[name]; ok && address == l.to.Addr() || !ok && p.stays(name, l, now) {
			continue
		}
		delete(p.lines, name)
		if address := l.to.Addr(); p.byAddress[address] == l {
			delete(p.byAddress, address)
		}
		delete(p.left, name)
		closed = append(closed, l)
	}
	for name, address := range wanted {
		delete(p.left, name)
		if p.lines[name] == nil {
			l := newLine(netip.AddrPortFrom(address, p.options.Port))
			p.lines[name], p.byAddress[address] = l, l
		}
	}
	return closed
}

// wanted returns the nodes to probe. p.mu must be held.
func (p *Peers) wanted() map[string]netip.Addr {
	out := map[string]netip.Addr{}
	if p.all {
		maps.Copy(out, p.roster.Addrs)
		delete(out, p.options.NodeName)
		return out
	}
	for _, name := range p.ring.after(p.options.NodeName) {
		out[name] = p.roster.Addrs[name]
	}
	return out
}

// stays says whether a line that nobody wants is kept: that to a node which has
// left the roster and is silent. p.mu must be held.
func (p *Peers) stays(name string, l *line, now time.Time) bool {
	if _, listed := p.roster.Addrs[name]; listed || l.opinion(now).State != Silent {
		return false
	}
	if p.left[name].IsZero() {
		p.left[name] = now
	}
	return now.Sub(p.left[name]) < silentStays
}

// probe sends a probe to each node that is probed.
func (p *Peers) probe() {
	p.mu.Lock()
	lines := slices.Collect(maps.Values(p.lines))
	p.mu.Unlock()
	for _, l := range lines {
		l.sendProbe(time.Now())
	}
}

// Opinions returns what this node hears of each node that runs Signpost, but not
// of itself.
func (p *Peers) Opinions() map[string]Opinion {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	out := make(map[string]Opinion, len(p.roster.Addrs))
	for name := range p.roster.Addrs {
		out[name] = Opinion{}
	}
	for name, l := range p.lines {
		out[name] = l.opinion(now)
	}
	delete(out, p.options.NodeName)
	return out
}

// opinionOf answers another node.
func (p *Peers) opinionOf(subject netip.Addr) Opinion {
	p.mu.Lock()
	l := p.byAddress[subject]
	p.mu.Unlock()
	if l == nil {
		return Opinion{}
	}
	return l.opinion(time.Now())
}

// About asks the nodes that probe a node what they hear of it, and returns the
// opinion of each that replied in time: after a fifth of a second it waits no
// longer.
func (p *Peers) About(ctx context.Context, node string) map[string]Opinion {
	p.mu.Lock()
	subject := p.roster.Addrs[node]
	if l := p.lines[node]; l != nil {
		subject = l.to.Addr()
	}
	ask := map[string]netip.Addr{}
	around := p.ring
	if _, listed := p.roster.Addrs[node]; !listed {
		around = newRing(append(slices.Clone(around), node)) // where it was before it left
	}
	for _, name := range around.before(node) {
		if name != p.options.NodeName {
			ask[name] = p.roster.Addrs[name]
		}
	}
	p.mu.Unlock()
	out := map[string]Opinion{}
	if !subject.IsValid() {
		return out
	}
	for name, m := range p.each(ctx, ask, message{kind: kindAsk, subject: subject}, kindOpinion) {
		out[name] = m.opinion
	}
	return out
}

// Vouch has the node believe others that they have heard of a node, which is
// silent by now. Without that, a node that was never heard here is never silent.
func (p *Peers) Vouch(node string, silence time.Duration) {
	p.mu.Lock()
	l := p.lines[node]
	p.mu.Unlock()
	if l != nil {
		l.vouch(time.Now(), silence)
	}
}

// Ask asks nodes, by name and address, for their watermarks, and returns those of
// the nodes that replied in time: after a fifth of a second it waits no longer.
func (p *Peers) Ask(ctx context.Context, nodes map[string]netip.Addr) map[string]uint64 {
	out := map[string]uint64{}
	for name, m := range p.each(ctx, nodes, message{kind: kindProbe}, kindAnswer) {
		out[name] = m.watermark
	}
	return out
}

// Finding is what a node finds of a backend of a Service. What its numbers mean is
// for those who ask and answer to know; zeros are for what is not known.
type Finding struct {
	State, Cause uint8
	Detail       uint16
}

// Findings asks nodes, by name and address, about a backend, and returns what those
// that replied in time say: after a fifth of a second it waits no longer.
func (p *Peers) Findings(ctx context.Context, nodes map[string]netip.Addr, backend [16]byte) map[string]Finding {
	out := map[string]Finding{}
	for name, m := range p.each(ctx, nodes, message{kind: kindInquiry, backend: backend}, kindFinding) {
		out[name] = m.finding
	}
	return out
}

// each asks all of these nodes the same, and returns the replies of a kind.
func (p *Peers) each(ctx context.Context, nodes map[string]netip.Addr, m message, want kind) map[string]message {
	var mu sync.Mutex
	out := map[string]message{}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for name, address := range nodes {
		g.Go(func() error {
			if reply, ok := p.exchange(ctx, address, m); ok && reply.kind == want {
				mu.Lock()
				out[name] = reply
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
	return out
}

// exchange uses the line to the address, if there is one: a kernel refuses only so
// often in a second, and each refusal should count as a sign of life.
func (p *Peers) exchange(ctx context.Context, address netip.Addr, m message) (message, bool) {
	if !address.IsValid() {
		return message{}, false
	}
	p.mu.Lock()
	l := p.byAddress[address]
	p.mu.Unlock()
	if l != nil {
		return l.exchange(ctx, m)
	}
	l = newLine(netip.AddrPortFrom(address, p.options.Port))
	defer l.close()
	return l.exchange(ctx, m)
}

// count returns how many nodes are probed, by state.
func (p *Peers) count() map[State]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	out := map[State]int{}
	for _, l := range p.lines {
		out[l.opinion(now).State]++
	}
	return out
}
