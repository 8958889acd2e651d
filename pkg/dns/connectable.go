package dns

import (
	"net/netip"
	"slices"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Rules tell how far this node's rules are.
type Rules interface {
	// Programmed returns the generation of the last Snapshot whose rules are in.
	Programmed() uint64
	// Progress returns a channel that holds a signal after each advance of Programmed.
	// It has one reader.
	Progress() <-chan struct{}
}

// maxSeen bounds the Snapshots that are remembered until their rules are in.
const maxSeen = 64

// connectable holds back the names of Services with cluster IPs that this node's
// rules do not know yet: who resolves a name at once connects to its address.
// Everything else is answered from the newest Snapshot. A name that goes is not held, nor
// is an endpoint.
type connectable struct {
	// patience is how long a name is held back at most.
	patience time.Duration
	// base is the newest Snapshot whose rules are known to be in, or the first one.
	base *model.Snapshot
	// seen are those after it, in order.
	seen []*model.Snapshot
	// since is when a name was first held back.
	since map[model.Name]time.Time
	// held is how many names are held back.
	held int
}

// next returns the Snapshot to answer from, and when to look again if nothing
// happens meanwhile; zero for not at all.
func (c *connectable) next(newest *model.Snapshot, programmed uint64, now time.Time) (s *model.Snapshot, again time.Time) {
	c.advance(newest, programmed)
	held := map[model.Name]*model.Service{}
	since := map[model.Name]time.Time{}
	for _, name := range newest.Services.Diff(&c.base.Services) {
		was := c.base.Services.Get(name)
		if !newAddress(was, newest.Services.Get(name)) {
			continue
		}
		first, ok := c.since[name]
		if !ok {
			first = now
		}
		since[name] = first
		until := first.Add(c.patience)
		if !now.Before(until) {
			continue
		}
		held[name] = was
		if again.IsZero() || until.Before(again) {
			again = until
		}
	}
	c.since, c.held = since, len(held)
	if len(held) == 0 {
		return newest, time.Time{}
	}
	out := *newest
	// Whoever waits for this node waits for these names, too.
	out.Generation = c.base.Generation
	out.Services = newest.Services.With(held)
	return &out, again
}

// advance makes base the newest Snapshot whose rules are in.
func (c *connectable) advance(newest *model.Snapshot, programmed uint64) {
	if c.base == nil {
		c.base = newest // it is that or no answer at all
	}
	if last := len(c.seen) - 1; newest != c.base && (last < 0 || c.seen[last] != newest) {
		c.seen = append(c.seen, newest)
	}
	n := 0
	for n < len(c.seen) && c.seen[n].Generation <= programmed {
		c.base = c.seen[n]
		n++
	}
	c.seen = slices.Delete(c.seen, 0, n)
	if len(c.seen) > maxSeen {
		c.seen = slices.Delete(c.seen, 0, 1) // the next one does as well, later
	}
}

// newAddress reports whether now has a cluster IP that was does not have. was may
// be nil, and now as well.
func newAddress(was, now *model.Service) bool {
	if now == nil {
		return false
	}
	return slices.ContainsFunc(now.ClusterIPs, func(a netip.Addr) bool { return was == nil || !slices.Contains(was.ClusterIPs, a) })
}
