package dns

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// zoneLabel and viewLabel are CoreDNS's where one server block answers all names, as in
// kubeadm's Corefile.
const (
	zoneLabel = "."
	viewLabel = ""
)

// meter counts what is asked and answered at one address over one transport, with
// all that it usually needs looked up beforehand. It is safe for concurrent use.
type meter struct {
	metrics *metrics
	server  string
	// requests are by place in countedTypes, and one for all other types.
	requests    []prometheus.Counter
	do          prometheus.Counter
	duration    prometheus.Observer
	requestSize prometheus.Observer
	replySize   prometheus.Observer
	// hits are the responses of what is kept packed, by response code.
	hits [dns.RcodeNameError + 1]prometheus.Counter
	// cacheHits are those of what upstreams have said.
	cacheHits [maxRcode + 1]prometheus.Counter
}

// maxRcode is the largest response code that a header has room for.
const maxRcode = 15

// countedTypes are those that CoreDNS counts by name; all others are one. The
// most frequent ones come first.
var countedTypes = [...]uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeHTTPS, dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypeMX,
	dns.TypeSVCB, dns.TypeANY, dns.TypeDS, dns.TypeDNSKEY, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeAXFR, dns.TypeIXFR,
}

func countedAs(qtype uint16) int {
	for i, t := range countedTypes {
		if t == qtype {
			return i
		}
	}
	return len(countedTypes)
}

// meter returns the meter of an address and a transport, udp or tcp.
func (m *metrics) meter(at netip.AddrPort, proto string) *meter {
	server := "dns://" + at.String()
	family := "1"
	if at.Addr().Is6() {
		family = "2"
	}
	out := &meter{
		metrics:     m,
		server:      server,
		do:          m.do.WithLabelValues(server, zoneLabel, viewLabel),
		duration:    m.duration.WithLabelValues(server, zoneLabel, viewLabel),
		requestSize: m.requestSize.WithLabelValues(server, zoneLabel, viewLabel, proto),
		replySize:   m.replySize.WithLabelValues(server, zoneLabel, viewLabel, proto),
	}
	for i := range len(countedTypes) + 1 {
		name := "other"
		if i < len(countedTypes) {
			name = dns.TypeToString[countedTypes[i]]
		}
		out.requests = append(out.requests, m.requests.WithLabelValues(server, zoneLabel, viewLabel, proto, family, name))
	}
	for rcode := range out.hits {
		out.hits[rcode] = m.responses.WithLabelValues(server, zoneLabel, viewLabel, rcodeText(rcode), sourceCluster)
	}
	for rcode := range out.cacheHits {
		out.cacheHits[rcode] = m.responses.WithLabelValues(server, zoneLabel, viewLabel, rcodeText(rcode), sourceCache)
	}
	return out
}

// measured is what is counted of one request and its reply.
type measured struct {
	qtype uint16
	do    bool
	took  time.Duration
	// request and reply are lengths in octets.
	request, reply int
}

// hit counts a reply that is sent as it is kept. It takes no lock and allocates
// nothing.
func (m *meter) hit(rcode int, x measured) {
	m.hits[rcode].Inc()
	m.count(x)
}

// cached counts a reply that is sent as an upstream gave it before, as hit does.
func (m *meter) cached(rcode int, x measured) {
	m.cacheHits[rcode].Inc()
	m.count(x)
}

func (m *meter) answered(rcode int, source string, x measured) {
	m.metrics.responses.WithLabelValues(m.server, zoneLabel, viewLabel, rcodeText(rcode), source).Inc()
	m.count(x)
}

func (m *meter) count(x measured) {
	m.requests[countedAs(x.qtype)].Inc()
	if x.do {
		m.do.Inc()
	}
	m.duration.Observe(x.took.Seconds())
	m.requestSize.Observe(float64(x.request))
	m.replySize.Observe(float64(x.reply))
}
