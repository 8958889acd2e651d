package dns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/signpost-dev/signpost/pkg/model"
)

const (
	// auditEvery is how often it is made sure that our addresses are still on the
	// node, in case somebody took one away.
	auditEvery = 5 * time.Second
	// An address that cannot be listened at is tried again after firstRetry, then
	// after twice as long each time, up to lastRetry.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// bindings keeps the addresses that are listened on equal to those that should
// be. One address that cannot be had does not keep the others from being served.
// Only the goroutine of Run uses it.
type bindings struct {
	server *Server
	// node holds the addresses that we put onto the node; nil if none shall be.
	node *nodeAddrs
	// failed receives when a listener has ended on its own.
	failed chan struct{}
	// ending are the listeners that are closed, but still have requests waiting.
	ending  sync.WaitGroup
	slots   map[netip.AddrPort]*slot
	audited time.Time
	warned  bool
}

// slot is an address that should be listened on.
type slot struct {
	binding
	listener *listener
	retryAt  time.Time
	pause    time.Duration
	lastErr  string
}

// binding is an address to listen on, and how.
type binding struct {
	addr netip.AddrPort
	// ours: it is put onto the node if it is not there.
	ours bool
	// peer: it is for the pods of other nodes, see neighbours.
	peer bool
}

func newBindings(s *Server) *bindings {
	b := &bindings{server: s, failed: make(chan struct{}, 1), slots: map[netip.AddrPort]*slot{}}
	if !s.opts.AddressesAreLocal {
		b.node = &nodeAddrs{log: s.log}
	}
	return b
}

// wanted returns what to listen on, as far as it is known.
func (b *bindings) wanted() map[netip.AddrPort]binding {
	s := b.server
	out := map[netip.AddrPort]binding{}
	add := func(addr netip.AddrPort, ours, peer bool) {
		if _, dup := out[addr]; !dup {
			out[addr] = binding{addr, ours, peer}
		}
	}
	snapshot := s.view().Snapshot()
	for _, addr := range s.opts.Listen {
		add(addr, true, false)
	}
	if len(s.opts.Listen) == 0 {
		for _, ip := range b.clusterIPs(snapshot) {
			add(netip.AddrPortFrom(ip, s.port), true, false)
		}
		if !s.opts.AddressesAreLocal {
			add(netip.AddrPortFrom(linkLocal(), s.port), true, false)
		}
	}
	if snapshot != nil && s.opts.PeerPort != 0 {
		for _, ip := range snapshot.Node.Addrs {
			add(netip.AddrPortFrom(ip, s.opts.PeerPort), false, true)
		}
	}
	return out
}

func (b *bindings) clusterIPs(snapshot *model.Snapshot) []netip.Addr {
	if snapshot == nil {
		return nil
	}
	svc := snapshot.Services.Get(b.server.opts.Service)
	if missing := svc == nil || len(svc.ClusterIPs) == 0; missing != b.warned {
		b.warned = missing
		if missing {
			b.server.log.Warn("the Service of the DNS server has no cluster IP, so pods cannot reach it there", "service", b.server.opts.Service)
		}
	}
	if svc == nil {
		return nil
	}
	return svc.ClusterIPs
}

// reconcile brings what is into line with what should be, and returns how long
// it can be left alone.
func (b *bindings) reconcile(ctx context.Context, now time.Time) time.Duration {
	changed := b.reap(now)
	wanted := b.wanted()
	for addr, sl := range b.slots {
		if w, ok := wanted[addr]; !ok || w != sl.binding {
			b.stop(sl)
			delete(b.slots, addr)
			b.server.metrics.listening.DeleteLabelValues(addr.String())
			changed = true
		}
	}
	for addr, w := range wanted {
		if b.slots[addr] == nil {
			b.slots[addr] = &slot{binding: w}
			changed = true
		}
	}
	missing := b.placeAddresses(changed, now)
	for _, addr := range slices.SortedFunc(maps.Keys(b.slots), netip.AddrPort.Compare) {
		if sl := b.slots[addr]; sl.listener == nil && !now.Before(sl.retryAt) {
			b.start(ctx, sl, missing[addr.Addr()], now)
			changed = true
		}
	}
	if changed {
		b.report()
	}
	return b.nextLook(now)
}

// placeAddresses makes our addresses exist on the node, and those go that are no
// longer wanted. It returns why some do not exist. Before the first Snapshot none
// is taken away: what an earlier process left may be wanted yet.
func (b *bindings) placeAddresses(changed bool, now time.Time) map[netip.Addr]error {
	due := slices.ContainsFunc(slices.Collect(maps.Values(b.slots)), func(sl *slot) bool {
		return sl.listener == nil && !now.Before(sl.retryAt)
	})
	if b.node == nil || !changed && !due && now.Sub(b.audited) < auditEvery {
		return nil
	}
	b.audited = now
	want := map[netip.Addr]bool{} // and whether it is listened on
	for addr, sl := range b.slots {
		if sl.ours {
			want[addr.Addr()] = want[addr.Addr()] || sl.listener != nil
		}
	}
	failed := b.node.set(slices.SortedFunc(maps.Keys(want), netip.Addr.Compare), b.server.view().Snapshot() != nil)
	for addr, err := range failed {
		// What start does not report.
		if listening, wanted := want[addr]; listening || !wanted {
			b.server.log.Warn("cannot put an address right", "address", addr, "error", err)
		}
	}
	return failed
}

func (b *bindings) start(ctx context.Context, sl *slot, missing error, now time.Time) {
	err := missing
	if err == nil {
		sl.listener, err = listen(ctx, sl.addr)
	}
	if err != nil {
		b.retryLater(sl, err, now)
		return
	}
	sl.listener.start(ctx, b.server, b.server.allowed(sl.binding), func() {
		select {
		case b.failed <- struct{}{}:
		default:
		}
	})
	sl.pause, sl.lastErr = 0, ""
	b.server.log.Info("answering DNS questions", "address", sl.listener.addr)
}

// retryLater says so once for each different error.
func (b *bindings) retryLater(sl *slot, err error, now time.Time) {
	sl.pause = min(max(2*sl.pause, firstRetry), lastRetry)
	sl.retryAt = now.Add(sl.pause)
	if err.Error() != sl.lastErr {
		b.server.log.Warn("cannot answer DNS questions at one address; trying again", "address", sl.addr, "error", err)
	}
	sl.lastErr = err.Error()
}

// reap closes the listeners of which a part has ended on its own.
func (b *bindings) reap(now time.Time) (changed bool) {
	for _, sl := range b.slots {
		if sl.listener == nil {
			continue
		}
		if err := sl.listener.failure.Load(); err != nil {
			b.stop(sl)
			b.retryLater(sl, *err, now)
			changed = true
		}
	}
	return changed
}

func (b *bindings) stop(sl *slot) {
	if sl.listener == nil {
		return
	}
	sl.listener.close()
	b.ending.Go(sl.listener.wg.Wait)
	b.server.log.Info("no longer answering DNS questions", "address", sl.listener.addr)
	sl.listener = nil
}

// report tells the world what is listened on, and what is not. That peers cannot
// be answered is no reason to call the node unready.
func (b *bindings) report() {
	var serving []netip.AddrPort
	var errs []error
	for addr, sl := range b.slots {
		up := 0.0
		if sl.listener != nil {
			up = 1
			serving = append(serving, sl.listener.addr)
		} else if !sl.peer {
			errs = append(errs, fmt.Errorf("%s: %s", addr, sl.lastErr))
		}
		b.server.metrics.listening.WithLabelValues(addr.String()).Set(up)
	}
	b.server.setServing(serving, errors.Join(errs...))
}

func (b *bindings) nextLook(now time.Time) time.Duration {
	next := auditEvery
	for _, sl := range b.slots {
		if sl.listener == nil {
			next = min(next, sl.retryAt.Sub(now))
		}
	}
	return max(next, 0)
}

// How long is gone on answering after nothing new is taken: drainLeast for what had
// come before, which the kernel holds for us, and up to drainMost for questions that
// wait for an upstream.
const (
	drainLeast = 50 * time.Millisecond
	drainMost  = time.Second
)

// close has packets go elsewhere, goes on answering what had come before, and then ends all
// listeners. end ends what they still wait for.
func (b *bindings) close(end func()) error {
	b.server.setServing(nil, errStopped)
	err := b.leave()
	for _, sl := range b.slots {
		b.stop(sl)
	}
	end()
	b.ending.Wait()
	return err
}

// leave makes the sockets invisible to new packets: the node's rules lead these to other
// nodes as soon as there is no socket for them. Then it takes our addresses away.
func (b *bindings) leave() error {
	if b.node == nil {
		return nil
	}
	for _, sl := range b.slots {
		if sl.ours && sl.listener != nil {
			if err := sl.listener.takeNoMore(); err != nil {
				b.server.log.Warn("questions may be lost", "address", sl.addr, "error", err)
			}
		}
	}
	failed := b.node.set(nil, true)
	for begin := time.Now(); ; time.Sleep(drainLeast / 10) {
		took := time.Since(begin)
		if took > drainMost || took > drainLeast && !b.server.waiters.busy() {
			return errors.Join(slices.Collect(maps.Values(failed))...)
		}
	}
}
