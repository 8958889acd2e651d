package forward

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	dnsPort = 53
	// recheck is how long a file of upstreams is believed not to have changed.
	recheck = 5 * time.Second
	// maxUpstreams bounds what a group asks, maxFile the octets of a file that are
	// read. A resolv.conf that is longer than that is not one.
	maxUpstreams = 15
	maxFile      = 64 << 10
)

// group is a list of upstreams as the configuration has it, addresses and files
// that hold addresses, for the names in a domain.
type group struct {
	log     *slog.Logger
	domain  string // lower case, fully qualified
	sources []*source

	mu      sync.Mutex
	checked time.Time
	known   []netip.AddrPort
	loops   map[netip.AddrPort]*loop
}

// source is one element of the list: an address, or a file.
type source struct {
	addr netip.AddrPort
	file string

	// Of the file, as it was read last.
	text   []byte
	failed bool
	held   []netip.AddrPort
}

func newGroup(domain string, texts []string, log *slog.Logger) (*group, error) {
	g := &group{log: log, domain: domain, loops: map[netip.AddrPort]*loop{}}
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

// newGroups returns the groups of o, those for longer domains first: the last one
// is for all names.
func newGroups(o Options) ([]*group, error) {
	var out []*group
	for domain, texts := range o.StubDomains {
		if _, ok := dns.IsDomainName(domain); !ok {
			return nil, fmt.Errorf("stubDomains: %q is no domain name", domain)
		}
		g, err := newGroup(dns.CanonicalName(domain), texts, o.Log)
		if err != nil {
			return nil, fmt.Errorf("stubDomains: %s%w", domain, err)
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *group) int {
		return cmp.Or(cmp.Compare(dns.CountLabel(b.domain), dns.CountLabel(a.domain)), cmp.Compare(a.domain, b.domain))
	})
	rest, err := newGroup(".", o.Upstreams, o.Log)
	if err != nil {
		return nil, fmt.Errorf("upstreams: %w", err)
	}
	return append(out, rest), nil
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
			if !slices.Contains(known, addr) && len(known) < maxUpstreams {
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

// read reads the file again. Its times do not tell whether it has changed: what
// is put in its place may be older.
func (s *source) read() error {
	file, err := os.Open(s.file)
	if err != nil {
		return err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return err
	}
	if s.text == nil || !bytes.Equal(text, s.text) {
		s.held, s.text = parseResolvConf(text), text
	}
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
