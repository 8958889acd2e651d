package dns

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/dns/packed"
)

// keptBytes bounds the answers that are kept packed, in octets. It is enough for
// 10,000 Services that are asked for in both families, and taken only as far as
// they are.
const keptBytes = 16 << 20

// hotQuery is a request of the kind that nearly all are: one question of class
// IN, and nothing else but an OPT record. It is the memory of a reader, that uses it
// for one request after the other.
type hotQuery struct {
	asked packed.Asked
	// name is in wire format and lower case.
	name   []byte
	qtype  uint16
	buffer [maxName + 1]byte
}

// parse reads a request that is of the kind, which parseQuery would read as it does.
// It returns false for all others.
func (h *hotQuery) parse(wire []byte) bool {
	if len(wire) < headerLen {
		return false
	}
	word := func(i int) uint16 { return binary.BigEndian.Uint16(wire[2*i:]) }
	// Neither a response nor another operation than a query.
	if bits := word(1); bits&(bitQR|0xf<<11) != 0 || word(2) != 1 || word(3) != 0 || word(4) != 0 || word(5) > 1 {
		return false
	}
	off, ok := h.parseName(wire)
	if !ok || off+4 > len(wire) || binary.BigEndian.Uint16(wire[off+2:]) != dns.ClassINET {
		return false
	}
	h.qtype = binary.BigEndian.Uint16(wire[off:])
	off += 4
	h.asked.Question = wire[headerLen:off]
	h.asked.ID = word(0)
	h.asked.RecursionDesired, h.asked.CheckingDisabled = word(1)&bitRD != 0, word(1)&bitCD != 0
	h.asked.EDNS, h.asked.DNSSEC, h.asked.Limit = false, false, minUDPSize
	if h.qtype == dns.TypeAXFR || h.qtype == dns.TypeIXFR {
		return false
	}
	return word(5) == 0 || h.parseOPT(wire, off)
}

// parseName returns the offset behind the name.
func (h *hotQuery) parseName(wire []byte) (off int, ok bool) {
	h.asked.Lower = true
	off = headerLen
	for {
		if off >= len(wire) {
			return 0, false
		}
		n := int(wire[off])
		next := off + 1 + n
		if n == 0 {
			break
		}
		if n > maxLabel || next-headerLen >= maxName || next > len(wire) {
			return 0, false
		}
		off = next
	}
	off++
	h.name = h.buffer[:off-headerLen]
	for i, c := range wire[headerLen:off] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
			h.asked.Lower = false
		}
		h.name[i] = c
	}
	return off, true
}

func (h *hotQuery) parseOPT(wire []byte, off int) bool {
	r, _, ok := parseRecord(wire, off)
	if !ok || !r.root || r.rrtype != dns.TypeOPT || uint8(r.ttl>>16) != 0 {
		return false
	}
	h.asked.EDNS, h.asked.DNSSEC = true, r.ttl&(1<<15) != 0
	h.asked.Limit = int(min(max(r.class, minUDPSize), maxUDPSize))
	return true
}

// find returns what is kept for the request, or nil; known is false if it would be
// worth keeping.
func (h *hotQuery) find(book *packed.Book) (r *packed.Reply, known bool) {
	if book.View().IsElsewhere(h.name) {
		return nil, true
	}
	r = book.Find(h.name, h.qtype)
	return r, r != nil
}

// hotMetrics are those of answers that are sent as they are kept, by response
// code.
type hotMetrics struct {
	requests  prometheus.Counter
	responses [dns.RcodeNameError + 1]prometheus.Counter
	duration  prometheus.Observer
}

func newHotMetrics(m *metrics) hotMetrics {
	h := hotMetrics{requests: m.requests.WithLabelValues("udp"), duration: m.duration.WithLabelValues(sourceCluster)}
	for rcode := range h.responses {
		h.responses[rcode] = m.responses.WithLabelValues(rcodeText(rcode), sourceCluster)
	}
	return h
}

// hit answers the request from what is kept packed, and reports whether it did. It
// takes no lock and allocates nothing.
func (u *udpSocket) hit(book *packed.Book, r *packed.Reply, client netip.AddrPort, start time.Time) bool {
	u.hot.asked.Chance = rand.Uint32()
	wire, ok := book.Append(u.out[:0], r, &u.hot.asked)
	if !ok {
		return false
	}
	u.server.metrics.hot.responses[r.Rcode()].Inc()
	u.server.metrics.hot.duration.Observe(time.Since(start).Seconds())
	u.write(wire, client)
	return true
}
