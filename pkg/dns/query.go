package dns

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

const (
	headerLen = 12
	optLen    = 11 // of an OPT record without options
	// maxName is the length of a name in wire format, maxLabel that of a label.
	maxName  = 255
	maxLabel = 63
	// minUDPSize is what every client can receive, maxUDPSize what is sent at
	// most: a datagram that is not cut into fragments on the way.
	minUDPSize = 512
	maxUDPSize = 1232
	maxTCPSize = 65535
)

// Bits of the header's second word.
const (
	bitQR = 1 << 15
	bitRD = 1 << 8
	bitAD = 1 << 5
	bitCD = 1 << 4
)

// query is what a client asks, as far as it matters for the answer.
type query struct {
	id         uint16
	opcode     int
	rd, ad, cd bool
	// name is empty if the question could not be read.
	name  string
	qtype uint16
	class uint16
	// edns is true if there was an OPT record, the source of the next two.
	edns    bool
	do      bool
	udpSize uint16
}

// parseQuery reads a request. ok is false for what is not answered at all: a
// response, or what does not hold what its header says. rcode tells how to refuse,
// or is dns.RcodeSuccess. The counts of the header are judged before anything that
// they count is read, and nothing but the question becomes an object.
func parseQuery(wire []byte) (q query, rcode int, ok bool) {
	if len(wire) < headerLen {
		return q, 0, false
	}
	word := func(i int) uint16 { return binary.BigEndian.Uint16(wire[2*i:]) }
	bits := word(1)
	if bits&bitQR != 0 {
		return q, 0, false
	}
	q.id, q.opcode = word(0), int(bits>>11)&0xf
	q.rd, q.ad, q.cd = bits&bitRD != 0, bits&bitAD != 0, bits&bitCD != 0
	if q.opcode != dns.OpcodeQuery {
		return q, dns.RcodeNotImplemented, true
	}
	// A request for a transfer may have one record in the authority section, and
	// the additional section one OPT and one TSIG record.
	if word(2) != 1 || word(3) != 0 || word(4) > 1 || word(5) > 2 {
		return q, dns.RcodeFormatError, true
	}
	rcode, ok = q.parseBody(wire, int(word(4)), int(word(5)))
	return q, rcode, ok
}

func (q *query) parseBody(wire []byte, authority, additional int) (rcode int, ok bool) {
	off, ok := q.parseQuestion(wire)
	if !ok {
		return 0, false
	}
	for range authority {
		if _, off, ok = parseRecord(wire, off); !ok {
			return 0, false
		}
	}
	var version uint8
	for range additional {
		var r record
		if r, off, ok = parseRecord(wire, off); !ok {
			return 0, false
		}
		if r.rrtype != dns.TypeOPT {
			continue
		}
		if q.edns || !r.root {
			return dns.RcodeFormatError, true
		}
		q.edns, q.udpSize = true, r.class
		version, q.do = uint8(r.ttl>>16), r.ttl&(1<<15) != 0
	}
	switch {
	case version != 0:
		return dns.RcodeBadVers, true
	case q.qtype == dns.TypeAXFR || q.qtype == dns.TypeIXFR || q.class != dns.ClassINET:
		return dns.RcodeRefused, true
	}
	return dns.RcodeSuccess, true
}

// parseQuestion reads the question and returns the offset behind it. There is
// nothing yet that a compressed name could point at, so it must not be one.
func (q *query) parseQuestion(wire []byte) (int, bool) {
	off := headerLen
	for {
		if off >= len(wire) {
			return 0, false
		}
		n := int(wire[off])
		off++
		if n == 0 {
			break
		}
		if off += n; n > maxLabel || off-headerLen >= maxName {
			return 0, false
		}
	}
	if off+4 > len(wire) {
		return 0, false
	}
	name, _, err := dns.UnpackDomainName(wire[:off], headerLen)
	if err != nil {
		return 0, false
	}
	q.name = name
	q.qtype, q.class = binary.BigEndian.Uint16(wire[off:]), binary.BigEndian.Uint16(wire[off+2:])
	return off + 4, true
}

// record is the fixed part of a resource record.
type record struct {
	root          bool // its owner is the root
	rrtype, class uint16
	ttl           uint32
}

// parseRecord reads the record at off and returns the offset behind it.
func parseRecord(wire []byte, off int) (record, int, bool) {
	start := off
	for {
		if off >= len(wire) {
			return record{}, 0, false
		}
		n := int(wire[off])
		off++
		if n == 0 {
			break
		}
		if n > maxLabel { // a pointer, which ends a name, or nothing known
			off++
			break
		}
		off += n
	}
	if off+10 > len(wire) {
		return record{}, 0, false
	}
	r := record{
		root:   off == start+1,
		rrtype: binary.BigEndian.Uint16(wire[off:]),
		class:  binary.BigEndian.Uint16(wire[off+2:]),
		ttl:    binary.BigEndian.Uint32(wire[off+4:]),
	}
	off += 10 + int(binary.BigEndian.Uint16(wire[off+8:]))
	return r, off, off <= len(wire)
}
