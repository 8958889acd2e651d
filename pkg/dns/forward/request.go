package forward

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"

	"github.com/miekg/dns"
)

// udpSize is the largest datagram that upstreams are asked to send: one that is
// not cut into fragments on the way.
const udpSize = 1232

// request is a question as it goes to an upstream, with all that its answer must
// repeat.
type request struct {
	wire        []byte
	questionEnd int
}

// newRequest makes a request that nobody can guess: its ID is random, and so is,
// if cased, which letters of the name are capitals. The AD bit is always asked
// for: whether the client sees it is decided by the server, and the cache serves
// those who want it and those who do not.
func newRequest(k key, edns, cased bool) request {
	var random [2 + 32]byte
	// It never fails; see crypto/rand.
	_, _ = rand.Read(random[:])
	bits := uint16(bitAD)
	if k.flags&RecursionDesired != 0 {
		bits |= bitRD
	}
	if k.flags&CheckingDisabled != 0 {
		bits |= bitCD
	}
	wire := make([]byte, 0, headerLen+len(k.name)+4+11)
	wire = append(wire, random[0], random[1], byte(bits>>8), byte(bits), 0, 1, 0, 0, 0, 0, 0, 0)
	wire = append(wire, k.name...)
	if cased {
		mixCase(wire[headerLen:], random[2:])
	}
	wire = binary.BigEndian.AppendUint16(wire, k.qtype)
	wire = binary.BigEndian.AppendUint16(wire, dns.ClassINET)
	r := request{wire: wire, questionEnd: len(wire)}
	if edns {
		r.wire[11] = 1
		r.wire = append(r.wire, 0, 0, byte(dns.TypeOPT), udpSize>>8, udpSize&0xff, 0, 0, 0, 0, 0, 0)
		if k.flags&DNSSEC != 0 {
			r.wire[r.questionEnd+7] = 0x80
		}
	}
	return r
}

// mixCase makes a letter of name a capital where random has a 1.
func mixCase(name, random []byte) {
	for i, c := range name {
		if 'a' <= c && c <= 'z' && random[i/8]>>(i%8)&1 == 1 {
			name[i] = c - ('a' - 'A')
		}
	}
}

// match is how a message compares to the request that it may answer.
type match uint8

const (
	other     match = iota // the answer to something else, or nothing
	otherCase              // the answer, but for the case of the name
	exact
)

// compare judges by header and question alone, before anything else of the
// message is read.
func (r request) compare(wire []byte) match {
	const mustBe = bitQR // and opcode QUERY
	if len(wire) < headerLen || wire[0] != r.wire[0] || wire[1] != r.wire[1] {
		return other
	}
	bits := binary.BigEndian.Uint16(wire[2:])
	if bits&(bitQR|opcodeOf) != mustBe {
		return other
	}
	if binary.BigEndian.Uint16(wire[4:]) == 0 {
		// An upstream that understands nothing of the request may leave the question
		// out, but then it says so.
		if bits&rcodeOf == dns.RcodeFormatError && recordsOf(wire) == 0 {
			return exact
		}
		return other
	}
	if binary.BigEndian.Uint16(wire[4:]) != 1 || len(wire) < r.questionEnd {
		return other
	}
	question, asked := wire[headerLen:r.questionEnd], r.wire[headerLen:r.questionEnd]
	switch {
	case bytes.Equal(question, asked):
		return exact
	case lower(question[:len(question)-4]) == lower(asked[:len(asked)-4]) && bytes.Equal(question[len(question)-4:], asked[len(asked)-4:]):
		return otherCase
	}
	return other
}

const (
	// maxExpanded bounds the memory that a message takes when it is read: names in
	// it may be pointers of two octets at 255 (CVE-2026-82399).
	maxExpanded = 1 << 20
	// recordOverhead is what a record takes as an object, beside its text.
	recordOverhead = 128
)

// expands reports whether wire can be read within maxExpanded, and that it holds
// as many records as its header says.
func expands(wire []byte) error {
	off, ok := headerLen, false
	for range binary.BigEndian.Uint16(wire[4:]) {
		if off, ok = skipName(wire, off); !ok || off+4 > len(wire) {
			return errMalformed
		}
		off += 4
	}
	total := 0
	for range recordsOf(wire) {
		total += recordOverhead + nameLen(wire, off)
		if off, ok = skipName(wire, off); !ok || off+10 > len(wire) {
			return errMalformed
		}
		length := int(binary.BigEndian.Uint16(wire[off+8:]))
		// The data may be names, too, of which SOA has two.
		total += 2 * length
		if off += 10 + length; off > len(wire) {
			return errMalformed
		}
		if total > maxExpanded {
			return errTooLarge
		}
	}
	return nil
}

// nameLen returns how long the name at off is without compression, 256 if it is
// malformed.
func nameLen(wire []byte, off int) int {
	n := 0
	for hops := 0; off < len(wire) && n < 256 && hops < 128; {
		c := int(wire[off])
		switch {
		case c == 0:
			return n + 1
		case c >= 0xc0:
			if off+2 > len(wire) {
				return 256
			}
			off = int(binary.BigEndian.Uint16(wire[off:])) & 0x3fff
			hops++
			continue
		}
		n += c + 1
		off += c + 1
	}
	return 256
}
