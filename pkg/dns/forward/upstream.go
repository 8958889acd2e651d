package forward

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	dnsPort = 53
	// recheck is how long a file of upstreams is believed not to have changed.
	recheck = 5 * time.Second
	// failuresToDown is how many times in a row an upstream must fail to be asked
	// last, for minDown at first and for twice as long each time, up to maxDown.
	failuresToDown = 2
	minDown        = time.Second
	maxDown        = 30 * time.Second
)

// upstream is a resolver, and what is known of its health: only what the answers
// to real questions say.
type upstream struct {
	addr netip.AddrPort

	mu        sync.Mutex
	failures  int
	downFor   time.Duration
	downUntil time.Time

	warned atomic.Bool
}

// isDown also gives out the one question that tries an upstream which was down:
// as long as that one has no answer, the others need not wait for it, too.
func (u *upstream) isDown(now time.Time, attempt time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Before(u.downUntil) {
		return true
	}
	if u.failures >= failuresToDown {
		// A little less than the attempt, as report heeds no failure before.
		u.downUntil = now.Add(attempt * 9 / 10)
	}
	return false
}

// report notes whether u answered. Failures of questions that were under way
// when u went down say nothing new.
func (u *upstream) report(ok bool, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if ok {
		u.failures, u.downFor, u.downUntil = 0, 0, time.Time{}
		return
	}
	u.failures++
	if u.failures < failuresToDown || now.Before(u.downUntil) {
		return
	}
	u.downFor = min(max(2*u.downFor, minDown), maxDown)
	u.downUntil = now.Add(u.downFor)
}

func (u *upstream) warnOfSelf(log *slog.Logger) {
	if !u.warned.Swap(true) {
		log.Warn("left out an upstream that is this server itself", "upstream", u.addr)
	}
}

// upstreams keeps what is known of each upstream, whoever names it.
type upstreams struct{ m sync.Map }

func (us *upstreams) get(addr netip.AddrPort) *upstream {
	if u, ok := us.m.Load(addr); ok {
		return u.(*upstream)
	}
	u, _ := us.m.LoadOrStore(addr, &upstream{addr: addr})
	return u.(*upstream)
}

// group is a list of upstreams as the configuration has it: addresses, and files
// that hold addresses.
type group struct {
	log     *slog.Logger
	sources []*source

	mu      sync.Mutex
	checked time.Time
	known   []netip.AddrPort
}

// source is one element of the list: an address, or a file.
type source struct {
	addr netip.AddrPort
	file string

	// Of the file, when it was read.
	modified time.Time
	size     int64
	failed   bool
	held     []netip.AddrPort
}

func newGroup(texts []string, log *slog.Logger) (*group, error) {
	g := &group{log: log}
	for i, text := range texts {
		if strings.Contains(text, "/") {
			g.sources = append(g.sources, &source{file: text})
			continue
		}
		addr, err := parseServer(text)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		g.sources = append(g.sources, &source{addr: addr})
	}
	return g, nil
}

func newStubs(o Options) ([]stub, error) {
	var out []stub
	for domain, texts := range o.StubDomains {
		if _, ok := dns.IsDomainName(domain); !ok {
			return nil, fmt.Errorf("%q is no domain name", domain)
		}
		g, err := newGroup(texts, o.Log)
		if err != nil {
			return nil, fmt.Errorf("%s%w", domain, err)
		}
		out = append(out, stub{dns.CanonicalName(domain), g})
	}
	slices.SortFunc(out, func(a, b stub) int {
		return cmp.Or(cmp.Compare(dns.CountLabel(b.domain), dns.CountLabel(a.domain)), cmp.Compare(a.domain, b.domain))
	})
	return out, nil
}

// parseServer reads an IP address with or without a port.
func parseServer(s string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(addr.Unmap(), dnsPort), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is neither an IP address with or without a port nor the path of a file", s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// addrs returns the addresses of the group in order, each once. It looks whether
// files have changed, but not more often than recheck allows.
func (g *group) addrs(now time.Time) []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.checked.IsZero() && now.Sub(g.checked) < recheck {
		return g.known
	}
	g.checked = now
	var known []netip.AddrPort
	for _, s := range g.sources {
		for _, addr := range s.addrs(g.log) {
			if !slices.Contains(known, addr) {
				known = append(known, addr)
			}
		}
	}
	g.known = known
	return known
}

// addrs returns what the source holds. A file that has gone or cannot be read
// counts as it was.
func (s *source) addrs(log *slog.Logger) []netip.AddrPort {
	if s.file == "" {
		return []netip.AddrPort{s.addr}
	}
	if err := s.read(); err != nil {
		if !s.failed {
			log.Warn("cannot read the list of upstream resolvers; what it held stays", "error", err, "upstreams", s.held)
		}
		s.failed = true
		return s.held
	}
	s.failed = false
	return s.held
}

func (s *source) read() error {
	info, err := os.Stat(s.file)
	if err != nil {
		return err
	}
	if info.ModTime().Equal(s.modified) && info.Size() == s.size {
		return nil
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	s.held, s.modified, s.size = parseResolvConf(text), info.ModTime(), info.Size()
	return nil
}

// parseResolvConf returns the name servers of a file in the format of
// resolv.conf(5). Lines that it does not understand it skips, as the C library
// does.
func parseResolvConf(text []byte) []netip.AddrPort {
	var out []netip.AddrPort
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, netip.AddrPortFrom(addr.Unmap(), dnsPort))
		}
	}
	return out
}
