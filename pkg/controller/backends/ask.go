package backends

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
	"github.com/signpost-dev/signpost/pkg/controller/ledger"
	"github.com/signpost-dev/signpost/pkg/rendezvous"
)

const (
	// soonest and latest bound how often nodes are asked about a Service's backends:
	// twice as often as they check them.
	soonest = 500 * time.Millisecond
	latest  = 5 * time.Second
	// together is how many backends of one Service are asked about at once.
	together = 16
)

// ask asks the nodes that check a Service's backends what they find, and has the
// Service planned anew if something follows from it. It comes again as long as the
// Service has backends that are checked.
func (c *Controller) ask(ctx context.Context, k ledger.Key) {
	c.mu.Lock()
	s := c.services[k]
	if s == nil || len(s.backends) == 0 {
		if s != nil {
			s.asks = false
		}
		c.mu.Unlock()
		return
	}
	keys := make(map[netip.AddrPort]check.Key, len(s.backends))
	for at, b := range s.backends {
		keys[at] = b.key
	}
	period := min(max(s.request.Check.Interval/2, soonest), latest)
	c.mu.Unlock()

	able, all := c.options.Nodes.Able()
	checkers := rendezvous.Rank(k.String(), able)
	checkers = checkers[:min(len(checkers), verdict.Checkers)]
	found := c.find(ctx, checkers, keys)
	if ctx.Err() != nil {
		return
	}
	if c.hear(k, found, all) {
		c.queue.Add(k)
	}
	c.asking.AddAfter(k, period)
}

// find asks these nodes about the backends.
func (c *Controller) find(ctx context.Context, nodes []string, keys map[netip.AddrPort]check.Key) map[check.Key][]verdict.Finding {
	var mu sync.Mutex
	out := make(map[check.Key][]verdict.Finding, len(keys))
	var g errgroup.Group
	g.SetLimit(together)
	for _, key := range keys {
		g.Go(func() error {
			findings := c.options.Nodes.Ask(ctx, nodes, key)
			mu.Lock()
			defer mu.Unlock()
			out[key] = findings
			return nil
		})
	}
	_ = g.Wait() // none of them returns an error
	return out
}

// hear takes in what was found, by all of so many nodes, and says whether something
// follows from it. Backends that are other ones by now are left alone.
func (c *Controller) hear(k ledger.Key, found map[check.Key][]verdict.Finding, all int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[k]
	if s == nil {
		return false
	}
	now := time.Now()
	for _, b := range s.backends {
		findings, asked := found[b.key]
		if !asked {
			continue
		}
		b.findings = findings
		for _, f := range findings {
			if f.State != verdict.Unknown {
				s.heard = now
			}
		}
	}
	return s.decide(all, now)
}
