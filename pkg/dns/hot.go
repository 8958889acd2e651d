package dns

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/forward"
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
	ad     bool
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
	h.asked.RecursionDesired, h.asked.CheckingDisabled, h.ad = word(1)&bitRD != 0, word(1)&bitCD != 0, word(1)&bitAD != 0
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

// find returns what is kept for the request, or nil. elsewhere is true if it is not
// the cluster's to answer.
func (h *hotQuery) find(book *packed.Book) (r *packed.Reply, elsewhere bool) {
	if book.View().IsElsewhere(h.name) {
		return nil, true
	}
	return book.Find(h.name, h.qtype), false
}

// isForAll reports whether client gets the reply that all others get to what find has
// found: to a question for a name that nobody of the cluster has it may be another
// one, if the client's search list is walked.
func (s *Server) isForAll(client netip.Addr, qtype uint16, r *packed.Reply, elsewhere bool) bool {
	missing := elsewhere || r != nil && r.Rcode() == dns.RcodeNameError
	return !missing || !s.searcher.mayWalk(client, qtype)
}

// cached appends the reply of an upstream that is known, and returns it with its
// response code. It returns false, and dst as it was, if none is, or if it has to be
// cut. It takes no lock and allocates nothing if there is room.
func (h *hotQuery) cached(dst []byte, f *forward.Forwarder, now time.Time) (wire []byte, rcode int, ok bool) {
	var flags forward.Flags
	if h.asked.RecursionDesired {
		flags |= forward.RecursionDesired
	}
	if h.asked.CheckingDisabled {
		flags |= forward.CheckingDisabled
	}
	if h.asked.DNSSEC {
		flags |= forward.DNSSEC
	}
	a, ok := f.CachedWire(h.name, h.qtype, flags, now)
	if !ok || a.Len()+optLen > h.asked.Limit {
		return dst, 0, false
	}
	start := len(dst)
	dst = a.Append(dst, now)
	m := dst[start:]
	binary.BigEndian.PutUint16(m, h.asked.ID)
	if !h.ad && !h.asked.DNSSEC {
		m[3] &^= bitAD
	}
	copy(m[headerLen:], h.asked.Question)
	if h.asked.EDNS {
		m[11]++ // an Answer has no additional records
		dst = h.asked.AppendOPT(dst)
	}
	return dst, a.Rcode(), true
}
