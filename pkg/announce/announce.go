package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/announce/claim"
	"github.com/signpost-dev/signpost/pkg/announce/eligible"
	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// DefaultPort is the UDP port at which nodes tell each other what they claim.
const DefaultPort = 10264

// Wishes are what there is to announce. They are not changed any more.
type Wishes struct {
	// Nodes are those that decide, by name, each with the address that it is reached
	// at. All nodes should come to the same ones. Without this node among them it
	// takes no part.
	Nodes map[string]netip.Addr
	// Own are the node's own addresses. Where they are, addresses are announced that
	// are in no network of this node.
	Own []netip.Addr
	// Addresses are those that this node may announce. Without any it still has a vote.
	Addresses map[netip.Addr]eligible.Address
}

// Options are what an Announcer is made of.
type Options struct {
	// NodeName is this node's.
	NodeName string
	// Port is that of all nodes, 1 to 65535.
	Port uint16
	// Wishes returns what there is to announce, nil if that is nothing in the whole
	// cluster, or is not known. It is called
	// several times a second, one call after the other, and must not block; the same
	// pointer means that nothing has changed.
	Wishes func() *Wishes
	// Changed receives when Wishes may return others. It is only a matter of how soon
	// that is seen: they are looked at again in any case.
	Changed <-chan struct{}
	// Taken is told of each address that this node begins to answer for, and
	// Conflict of each that it does not claim because of what it says. They must not
	// block.
	Taken      func(netip.Addr)
	Conflict   func(address netip.Addr, message string)
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Announcer announces addresses.
type Announcer struct {
	options Options
	metrics *metrics
	wake    chan struct{}

	// These are of the goroutine of Run.
	wishes  *Wishes // as followed
	links   []link
	linksAt time.Time // when they were read
	// mine are the addresses that this machine has itself.
	mine map[netip.Addr]bool
	// unopened: there are links whose sockets could not be opened.
	unopened bool
	post     *post // nil: none is open
	// failed has what was told of something that cannot be done, by what that is.
	failed   map[string]string
	nextTick time.Time

	mu sync.Mutex
	// node is nil while this one takes no part.
	node   *claim.Node
	ports  map[int]*port
	places map[netip.Addr]*place
	// stale: what the node may claim is not what it should be any more.
	stale bool
	// strangers are all on the links but these: the interfaces of nodes.
	macs map[frame.MAC]bool
	// peers are the other nodes, by address.
	peers map[netip.Addr]*peer
}

// New returns an Announcer for one Run.
func New(o Options) (*Announcer, error) {
	if o.NodeName == "" || o.Port == 0 || o.Wishes == nil || o.Taken == nil || o.Conflict == nil || o.Registerer == nil || o.Log == nil {
		return nil, errors.New("announce: NodeName, Port, Wishes, Taken, Conflict, Registerer and Log are needed")
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("announce: register metrics: %w", err)
	}
	return &Announcer{
		options: o, metrics: m, wake: make(chan struct{}, 1), failed: map[string]string{},
		ports: map[int]*port{}, places: map[netip.Addr]*place{}, macs: map[frame.MAC]bool{}, peers: map[netip.Addr]*peer{},
	}, nil
}

const (
	// idle is the time between two looks at whether there is something to announce,
	// and tries of what has failed.
	idle = time.Second
	// breath is the least time between two rounds, so that many messages make one.
	breath = 5 * time.Millisecond
	// relook is after how long links are read again without a sign that they have
	// changed.
	relook = 10 * time.Second
)

// Run announces until ctx is done, and returns nil then, after it has told the
// other nodes. It must be called once.
func (a *Announcer) Run(ctx context.Context) error {
	defer a.stop()
	moved := a.watchLinks(ctx)
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		timer.Reset(a.round(ctx, time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			continue
		case <-a.options.Changed:
		case <-a.wake:
		case <-moved:
			a.linksAt = time.Time{}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(breath):
		}
	}
}

// round does what there is to do now, and returns when to look again.
func (a *Announcer) round(ctx context.Context, now time.Time) time.Duration {
	wishes := a.options.Wishes()
	if wishes == nil || !wishes.Nodes[a.options.NodeName].IsValid() {
		a.leave(now)
		return idle
	}
	if !a.join(ctx, now, wishes) {
		a.leave(now)
		return idle
	}
	moved := a.lookAtLinks(now)
	if wishes != a.wishes || moved {
		a.follow(now, wishes)
	}
	a.wishes = wishes
	return a.act(now)
}

// tell logs once that something cannot be done, and again when that is otherwise.
func (a *Announcer) tell(what string, err error) {
	switch {
	case err == nil:
		delete(a.failed, what)
	case a.failed[what] != err.Error():
		a.failed[what] = err.Error()
		a.options.Log.Warn("cannot "+what+", trying again", "error", err)
	}
}

// stir has the next round begin at once.
func (a *Announcer) stir() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// leave takes no part any more, and says so.
func (a *Announcer) leave(now time.Time) {
	a.mu.Lock()
	node := a.node
	var farewell claim.Message
	others := a.others()
	if node != nil {
		farewell = node.Farewell(now)
	}
	a.node = nil
	ports := a.ports
	a.ports, a.places, a.peers = map[int]*port{}, map[netip.Addr]*place{}, map[netip.Addr]*peer{}
	a.mu.Unlock()
	if node != nil && a.post != nil {
		a.sendMessage(farewell, others)
	}
	for _, p := range ports {
		p.close()
	}
	if a.post != nil {
		a.post.close()
		a.post = nil
	}
	a.wishes = nil
	a.metrics.addresses.Reset()
}

func (a *Announcer) stop() { a.leave(time.Now()) }

// join takes part, with a socket at this node's address. It returns false if that
// cannot be.
func (a *Announcer) join(ctx context.Context, now time.Time, wishes *Wishes) bool {
	here := netip.AddrPortFrom(wishes.Nodes[a.options.NodeName], a.options.Port)
	if a.post != nil && a.post.here != here {
		a.leave(now)
	}
	if a.post == nil {
		p, err := openPost(ctx, here, a.received)
		a.tell("listen for what other nodes claim", err)
		if err != nil {
			return false
		}
		a.post = p
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.node == nil {
		a.node = claim.New(a.options.NodeName, uint64(now.UnixNano()), now)
		a.nextTick = now
	}
	if wishes != a.wishes {
		a.meet(wishes)
	}
	return true
}

// meet notes who the nodes are. a.mu must be held.
func (a *Announcer) meet(wishes *Wishes) {
	var names []string
	was := a.peers
	a.peers = map[netip.Addr]*peer{}
	for name, address := range wishes.Nodes {
		if name == a.options.NodeName || !address.IsValid() {
			continue
		}
		names = append(names, name)
		if a.peers[address] = was[address]; a.peers[address] == nil || a.peers[address].name != name {
			a.peers[address] = &peer{name: name}
		}
	}
	a.node.SetNodes(names)
}
