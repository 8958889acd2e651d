package outside

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// MaxTTL is the largest time to live, in seconds, that records can have.
const MaxTTL = 3600

// Zone is what is answered for. It is immutable and may be used from any goroutine.
type Zone struct {
	name string // lower case, fully qualified
	ttl  uint32
	// servers are the names of the servers that the zone is delegated to.
	servers []string
}

// New returns the zone of that name, whose records may be kept for ttl seconds, 0 to
// MaxTTL. Servers are the names of the servers that it is delegated to, for its SOA and
// NS records; without any the zone itself stands there. The error names what cannot be used.
func New(name string, ttl uint32, servers []string) (*Zone, error) {
	z := &Zone{ttl: ttl}
	var err error
	if z.name, err = domain(name); err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	if ttl > MaxTTL {
		return nil, fmt.Errorf("ttl: %d s is more than %d s", ttl, MaxTTL)
	}
	for i, s := range servers {
		server, err := domain(s)
		if err != nil {
			return nil, fmt.Errorf("servers[%d]: %w", i, err)
		}
		z.servers = append(z.servers, server)
	}
	if len(z.servers) == 0 {
		z.servers = []string{z.name}
	}
	return z, nil
}

func domain(name string) (string, error) {
	out := strings.ToLower(dns.Fqdn(name))
	if _, ok := dns.IsDomainName(out); !ok || out == "." || strings.HasPrefix(out, ".") {
		return "", fmt.Errorf("%q is no domain name", name)
	}
	return out, nil
}

// Answer is what there is to say to a question.
type Answer struct {
	// Rcode is success, NXDOMAIN, SERVFAIL, or REFUSED for what is not of the zone.
	Rcode  int
	Answer []dns.RR
	// Ns holds the SOA record of a negative answer.
	Ns    []dns.RR
	Extra []dns.RR
}

// Answer answers a question of class IN from s, which is nil as long as nothing is
// known. Serial is the number that SOA records carry. Names are written as in the
// question.
func (z *Zone) Answer(s *model.Snapshot, serial uint32, name string, qtype uint16) Answer {
	labels, ok := z.below(name)
	switch {
	case !ok, qtype == dns.TypeAXFR, qtype == dns.TypeIXFR:
		return Answer{Rcode: dns.RcodeRefused}
	case s == nil:
		return Answer{Rcode: dns.RcodeServerFailure}
	}
	l := lookup{zone: z, snapshot: s, serial: serial, name: name, qtype: qtype}
	a := l.answer(labels)
	if a.Rcode == dns.RcodeNameError || a.Rcode == dns.RcodeSuccess && len(a.Answer) == 0 {
		a.Ns = []dns.RR{l.soa()}
	}
	return a
}

// below returns the labels that name has below the zone, in lower case.
func (z *Zone) below(name string) ([]string, bool) {
	if !dns.IsSubDomain(z.name, name) {
		return nil, false
	}
	labels := dns.SplitDomainName(strings.ToLower(name))
	return labels[:len(labels)-dns.CountLabel(z.name)], true
}

// lookup is one question.
type lookup struct {
	zone     *Zone
	snapshot *model.Snapshot
	serial   uint32
	name     string
	qtype    uint16
}

func (l *lookup) answer(labels []string) Answer {
	n := len(labels)
	if n == 0 {
		return l.apex()
	}
	if n == 1 {
		return l.namespace(labels[0])
	}
	svc := l.snapshot.Services.Get(model.Name{Namespace: labels[n-1], Name: labels[n-2]})
	if svc == nil || len(svc.LoadBalancerIPs) == 0 {
		return Answer{Rcode: dns.RcodeNameError}
	}
	switch n {
	case 2:
		return l.addresses(svc)
	case 3:
		return l.protocol(svc, labels[0])
	case 4:
		return l.port(svc, labels[0], labels[1])
	}
	return Answer{Rcode: dns.RcodeNameError}
}

func (l *lookup) apex() Answer {
	switch l.qtype {
	case dns.TypeSOA:
		return Answer{Answer: []dns.RR{l.soa()}}
	case dns.TypeNS:
		var out Answer
		for _, s := range l.zone.servers {
			out.Answer = append(out.Answer, &dns.NS{Hdr: l.header(l.name, dns.TypeNS), Ns: s})
		}
		return out
	}
	return Answer{}
}

// namespace answers for the name above those of a namespace's Services: it is there if
// one of them is.
func (l *lookup) namespace(namespace string) Answer {
	if _, exists := l.snapshot.Namespaces[namespace]; !exists {
		return Answer{Rcode: dns.RcodeNameError} // anybody can ask, so what is looked for is what may be there
	}
	for name, svc := range l.snapshot.Services.All() {
		if name.Namespace == namespace && len(svc.LoadBalancerIPs) > 0 {
			return Answer{}
		}
	}
	return Answer{Rcode: dns.RcodeNameError}
}

func (l *lookup) addresses(svc *model.Service) Answer {
	var out Answer
	for _, a := range svc.LoadBalancerIPs {
		if rr := l.address(l.name, a); l.qtype == rr.Header().Rrtype {
			out.Answer = append(out.Answer, rr)
		}
	}
	return out
}

// protocol answers for _tcp.SERVICE: it is there if a port of the protocol has a name.
func (l *lookup) protocol(svc *model.Service, label string) Answer {
	if slices.ContainsFunc(svc.Ports, func(p model.ServicePort) bool { return p.Name != "" && isProtocol(label, p.Protocol) }) {
		return Answer{}
	}
	return Answer{Rcode: dns.RcodeNameError}
}

// port answers for _http._tcp.SERVICE.
func (l *lookup) port(svc *model.Service, port, protocol string) Answer {
	i := slices.IndexFunc(svc.Ports, func(p model.ServicePort) bool {
		return p.Name != "" && port == "_"+strings.ToLower(p.Name) && isProtocol(protocol, p.Protocol)
	})
	if i < 0 {
		return Answer{Rcode: dns.RcodeNameError}
	}
	if l.qtype != dns.TypeSRV {
		return Answer{}
	}
	labels := dns.Split(l.name)
	target := l.name[labels[2]:]
	out := Answer{Answer: []dns.RR{&dns.SRV{Hdr: l.header(l.name, dns.TypeSRV), Weight: 100, Port: svc.Ports[i].Port, Target: target}}}
	for _, a := range svc.LoadBalancerIPs {
		out.Extra = append(out.Extra, l.address(target, a))
	}
	return out
}

func isProtocol(label string, p model.Protocol) bool { return label == "_"+strings.ToLower(string(p)) }

func (l *lookup) address(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: l.header(name, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: l.header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
}

func (l *lookup) header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: l.zone.ttl}
}

// soa returns the zone's record, whose minimum is how long somebody may remember that
// there is no such name.
func (l *lookup) soa() dns.RR {
	return &dns.SOA{
		Hdr: l.header(l.zone.name, dns.TypeSOA),
		Ns:  l.zone.servers[0], Mbox: "hostmaster." + l.zone.name,
		Serial: l.serial, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: l.zone.ttl,
	}
}
