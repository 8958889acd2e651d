package claim

import (
	"net/netip"
	"slices"
	"time"
)

// How fast it goes.
const (
	// Period is the time between two messages of a node.
	Period = 250 * time.Millisecond
	// Seat is for how long a node has an address after the last message by which a
	// majority has granted it; Term is for how long nobody else is granted it.
	Seat = 900 * time.Millisecond
	Term = 1200 * time.Millisecond
	// stagger is by how much each node that is less preferred waits longer before
	// it claims what nobody has.
	stagger = 2 * Period
	// manyBefore is after how many of these it does not wait any longer: they are
	// alive, but may not be able to have the address, which only they know.
	manyBefore = 4
	// remembered is how many messages may be answered late.
	remembered = 8
)

// Node is one node's part. It is for one goroutine at a time.
type Node struct {
	self   string
	epoch  uint64
	number uint64
	nodes  map[string]*peer
	voter  voter
	// sent are the times of the last messages, by number modulo remembered.
	sent   [remembered]time.Time
	claims map[netip.Addr]*bid
}

// peer is what is known of another node.
type peer struct {
	// heard is when its last message came, epoch and number are that one's.
	heard         time.Time
	epoch, number uint64
	// answered is when the newest message was sent that it has answered.
	answered time.Time
	// held is what it had by its last message.
	held map[netip.Addr]struct{}
}

// bid is an address that the node may have.
type bid struct {
	// rank are the nodes that may have it, the preferred ones first.
	rank []string
	// mine: it is claimed, since then.
	mine  bool
	since time.Time
	// granted is, for each node that does, when the newest message was sent that it
	// has granted.
	granted map[string]time.Time
	// vacant is since when nobody is known to have it, and notBefore is until when
	// it is left to others.
	vacant, notBefore time.Time
	// holder is the other node that said so at heard.
	holder string
	heard  time.Time
}

// New returns a Node that begins now. Epoch must be higher than in all lives
// before, such as the time of day in nanoseconds.
func New(self string, epoch uint64, now time.Time) *Node {
	return &Node{
		self: self, epoch: epoch, nodes: map[string]*peer{self: {}}, claims: map[netip.Addr]*bid{},
		voter: voter{from: now.Add(Term), grants: map[netip.Addr]grant{}, of: map[string]map[netip.Addr]struct{}{}},
	}
}

// SetNodes says who all nodes are, with this one or without it. The majority is of
// these.
func (n *Node) SetNodes(names []string) {
	nodes := map[string]*peer{n.self: n.nodes[n.self]}
	for _, name := range names {
		if nodes[name] = n.nodes[name]; nodes[name] == nil {
			nodes[name] = new(peer)
		}
	}
	n.nodes = nodes
}

// SetAddresses says which addresses this node may have, each with all nodes that
// may. What it has and may not have any more it gives up.
func (n *Node) SetAddresses(now time.Time, may map[netip.Addr][]string) {
	for address := range n.claims {
		if _, still := may[address]; !still {
			delete(n.claims, address)
		}
	}
	for address, nodes := range may {
		b := n.claims[address]
		if b == nil {
			// Nobody grants anything before that, and others may be heard of meanwhile.
			b = &bid{granted: map[string]time.Time{}, vacant: now, notBefore: n.voter.from}
			if b.vacant.Before(b.notBefore) {
				b.vacant = b.notBefore
			}
			n.claims[address] = b
		}
		b.rank = Rank(address, nodes)
	}
}

// Tick returns the message to send to all other nodes now. It is due each Period,
// and may be made earlier when something has changed.
func (n *Node) Tick(now time.Time) Message {
	n.number++
	n.sent[n.number%remembered] = now
	m := Message{From: n.self, Epoch: n.epoch, Number: n.number}
	n.nodes[n.self].answered = now
	seated := n.seated(now)
	for _, b := range n.claims {
		n.bid(now, b, seated)
	}
	for address, b := range n.claims {
		if b.mine {
			m.Claims = append(m.Claims, Claim{Address: address, Held: n.holds(now, b)})
		}
	}
	slices.SortFunc(m.Claims, func(a, b Claim) int { return a.Address.Compare(b.Address) })
	n.take(now, n.self, n.number, n.voter.vote(now, n.self, m.Claims))
	return m
}

// Due says that there is an address which this node should claim at once, and not
// only in the next message.
func (n *Node) Due(now time.Time) bool {
	if !n.seated(now) {
		return false
	}
	for _, b := range n.claims {
		if !b.mine && n.mayBid(now, b) {
			return true
		}
	}
	return false
}

// Farewell returns the message to send when the node ends: it claims nothing any
// more, and has nothing.
func (n *Node) Farewell(now time.Time) Message {
	n.SetAddresses(now, nil)
	m := n.Tick(now)
	m.Leaving = true
	return m
}

// seated says whether a majority answers this node. Who is not answered only
// stands in the way of others.
func (n *Node) seated(now time.Time) bool {
	answering := 0
	for _, p := range n.nodes {
		if !p.answered.IsZero() && now.Sub(p.answered) < Seat {
			answering++
		}
	}
	return answering > len(n.nodes)/2
}

// bid decides whether to claim an address.
func (n *Node) bid(now time.Time, b *bid, seated bool) {
	switch {
	case b.mine && n.holds(now, b):
		b.since = now
	case b.mine && !seated:
		b.mine, b.vacant = false, now
	case b.mine && (b.holder != "" || now.Sub(b.since) > 2*Term):
		// Who fails for so long stands in the way of somebody, who does so to it. The
		// preferred one is back first.
		b.mine = false
		b.notBefore = now.Add(time.Duration(1+slices.Index(b.rank, n.self)) * Term)
	case b.mine:
	case seated && n.mayBid(now, b):
		b.mine, b.since = true, now
		clear(b.granted)
	}
}

// mayBid says whether it is this node's turn to claim an address, as nobody has it
// as far as is known.
func (n *Node) mayBid(now time.Time, b *bid) bool {
	if b.holder != "" && now.Sub(b.heard) >= Seat {
		b.holder, b.vacant = "", now
	}
	return b.holder == "" && !now.Before(b.notBefore) && now.Sub(b.vacant) >= n.patience(now, b)
}

// patience is how long a node leaves an address to those that are preferred and
// give signs of life.
func (n *Node) patience(now time.Time, b *bid) time.Duration {
	before := 0
	for _, name := range b.rank {
		if name == n.self {
			break
		}
		if n.alive(now, name) {
			before++
		}
	}
	return time.Duration(min(before, manyBefore)) * stagger
}

func (n *Node) alive(now time.Time, name string) bool {
	p := n.nodes[name]
	return p != nil && !p.heard.IsZero() && now.Sub(p.heard) < Seat
}

// Receive takes in the message of another node, and returns the reply to it; false
// if there is none, as it is of nobody known, or an old one.
func (n *Node) Receive(now time.Time, m Message) (Reply, bool) {
	p := n.nodes[m.From]
	if p == nil || m.From == n.self || m.Epoch < p.epoch || m.Epoch == p.epoch && m.Number <= p.number {
		return Reply{}, false
	}
	p.heard, p.epoch, p.number = now, m.Epoch, m.Number
	if m.Leaving {
		p.heard = time.Time{}
	}
	held := make(map[netip.Addr]struct{}, len(p.held))
	for _, c := range m.Claims {
		if b := n.claims[c.Address]; b != nil && c.Held {
			held[c.Address] = struct{}{}
			b.holder, b.heard = m.From, now
		}
	}
	for address := range p.held {
		b := n.claims[address]
		if _, still := held[address]; !still && b != nil && b.holder == m.From {
			b.holder, b.vacant = "", now
		}
	}
	p.held = held
	return Reply{From: n.self, Epoch: m.Epoch, Number: m.Number, Denied: n.voter.vote(now, m.From, m.Claims)}, true
}

// Answered takes in the reply of another node.
func (n *Node) Answered(now time.Time, r Reply) {
	if r.Epoch != n.epoch || n.nodes[r.From] == nil || r.Number > n.number || n.number-r.Number >= remembered {
		return
	}
	if p, sent := n.nodes[r.From], n.sent[r.Number%remembered]; sent.After(p.answered) {
		p.answered = sent
	}
	n.take(now, r.From, r.Number, r.Denied)
}

// take notes what a node has granted of the claims in a message of this one.
func (n *Node) take(now time.Time, from string, number uint64, denied []Denial) {
	sent := n.sent[number%remembered]
	by := make(map[netip.Addr]string, len(denied))
	for _, d := range denied {
		by[d.Address] = d.Holder
	}
	for address, b := range n.claims {
		holder, no := by[address]
		switch {
		case !b.mine || sent.Before(b.since) && !n.holds(now, b):
			// It was not claimed in that message, or given up since.
		case !no:
			if sent.After(b.granted[from]) {
				b.granted[from] = sent
			}
		case holder != "" && !n.holds(now, b) && n.alive(now, holder) && n.preferred(b, holder):
			b.mine, b.notBefore = false, now.Add(stagger)
		}
	}
}

// preferred says whether another node comes before this one.
func (n *Node) preferred(b *bid, other string) bool {
	i := slices.Index(b.rank, other)
	return i >= 0 && i < slices.Index(b.rank, n.self)
}

// Holds says whether the node has an address now. It has to be asked each time
// that something is done for which the node must have it.
func (n *Node) Holds(now time.Time, address netip.Addr) bool {
	b := n.claims[address]
	return b != nil && b.mine && n.holds(now, b)
}

func (n *Node) holds(now time.Time, b *bid) bool {
	votes := 0
	for name, sent := range b.granted {
		if n.nodes[name] != nil && now.Sub(sent) < Seat {
			votes++
		}
	}
	return votes > len(n.nodes)/2
}
