package forward

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// A question about a name that nobody else knows is sent through an upstream
	// when it is first seen and when it has fallen silent. If it comes here, the
	// upstream leads back: it is left out, and tried again after minLoop, then after
	// twice as long each time, up to maxLoop.
	minLoop = 30 * time.Second
	maxLoop = 10 * time.Minute
	// minSuspicion is the least time between two such questions to an upstream that
	// does not lead back.
	minSuspicion = time.Minute
	// maxProbes bounds those questions that are under way.
	maxProbes = 64
)

// loop is what is known of an upstream of a group, guarded by the group's mutex.
type loop struct {
	leadsBack bool
	pause     time.Duration
	next      time.Time // when to find out again; zero if there is no reason to
	last      time.Time
}

// probes are the names by which we would know our own questions. They are random,
// so nobody can make us believe in a loop (CVE-2026-26018), and worth nothing
// once the upstream has answered.
type probes struct {
	mu sync.Mutex
	m  map[string]probe // by the key's name
}

type probe struct {
	group *group
	addr  netip.AddrPort
}

// leadsBack reports whether addr was found to.
func (g *group) leadsBack(addr netip.AddrPort) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.loops[addr]
	return l != nil && l.leadsBack
}

// suspects returns the upstreams to be probed now, and forgets those that are not
// in the group any more.
func (g *group) suspects(now time.Time) (probed, forgotten []netip.AddrPort) {
	known := g.addrs(now)
	g.mu.Lock()
	defer g.mu.Unlock()
	held := map[netip.AddrPort]*loop{}
	for _, addr := range known {
		l := g.loops[addr]
		if l == nil {
			l = &loop{next: now}
		}
		held[addr] = l
		if !l.next.IsZero() && !now.Before(l.next) {
			l.last, l.next = now, time.Time{}
			if l.leadsBack {
				l.pause = min(2*l.pause, maxLoop)
				l.next = now.Add(l.pause)
			}
			probed = append(probed, addr)
		}
	}
	for addr := range g.loops {
		if held[addr] == nil {
			forgotten = append(forgotten, addr)
		}
	}
	g.loops = held
	return probed, forgotten
}

// suspect has u probed, as it has fallen silent: that is what a loop looks like.
func (f *Forwarder) suspect(k key, u *upstream) {
	g := f.groupOf(k.text())
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.loops[u.addr]; l != nil && l.next.IsZero() {
		l.next = l.last.Add(minSuspicion)
	}
}

// probe looks for upstreams that lead back here.
func (f *Forwarder) probe(now time.Time) {
	for _, g := range f.groups {
		suspects, forgotten := g.suspects(now)
		for _, addr := range forgotten {
			f.metrics.looping.DeleteLabelValues(addr.String(), g.domain)
		}
		for _, addr := range suspects {
			if !f.isSelf(addr) {
				f.background.start(func() { f.probeOne(g, addr) })
			}
		}
	}
}

func (f *Forwarder) probeOne(g *group, addr netip.AddrPort) {
	k, ok := f.probes.add(probe{g, addr})
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(f.background.ctx, f.attempts.timeout)
	defer cancel()
	_, err := f.exchange(ctx, f.upstreams.get(addr), k)
	if came := f.probes.remove(k); came || err != nil {
		return // it came back, or nothing is known
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.loops[addr]; l != nil && l.leadsBack {
		l.leadsBack = false
		l.next = time.Time{}
		f.metrics.looping.WithLabelValues(addr.String(), g.domain).Set(0)
		f.log.Info("an upstream does not lead back to this server any more", "upstream", addr, "domain", g.domain)
	}
}

// add invents a name in the group's domain.
func (ps *probes) add(p probe) (key, bool) {
	var random [20]byte
	// It never fails; see crypto/rand.
	_, _ = rand.Read(random[:])
	text := strings.ToLower(base32.HexEncoding.EncodeToString(random[:]))
	name, err := packName(text[:16] + "." + text[16:] + "." + strings.TrimPrefix(p.group.domain, "."))
	if err != nil {
		return key{}, false
	}
	k := key{name: lower(name), qtype: dns.TypeHINFO, flags: RecursionDesired}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.m == nil {
		ps.m = map[string]probe{}
	}
	if len(ps.m) >= maxProbes {
		return key{}, false
	}
	ps.m[k.name] = p
	return k, true
}

// remove forgets the name of k, and reports whether it came back meanwhile.
func (ps *probes) remove(k key) (came bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	_, there := ps.m[k.name]
	delete(ps.m, k.name)
	return !there
}

// cameBack reports whether k is a probe of ours, and leaves out the upstream that
// it was sent to.
func (f *Forwarder) cameBack(k key) bool {
	if k.qtype != dns.TypeHINFO {
		return false
	}
	f.probes.mu.Lock()
	p, ok := f.probes.m[k.name]
	delete(f.probes.m, k.name)
	f.probes.mu.Unlock()
	if !ok {
		return false
	}
	p.group.mu.Lock()
	defer p.group.mu.Unlock()
	l := p.group.loops[p.addr]
	if l == nil || l.leadsBack {
		return true
	}
	l.leadsBack, l.pause = true, minLoop
	l.next = l.last.Add(minLoop)
	f.metrics.looping.WithLabelValues(p.addr.String(), p.group.domain).Set(1)
	f.log.Warn("an upstream leads back to this server and is not asked any more", "upstream", p.addr, "domain", p.group.domain)
	return true
}
