package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Bits of a header's second word.
const (
	bitQR = 1 << 15
	bitTC = 1 << 9
	bitRD = 1 << 8
	bitRA = 1 << 7
	bitAD = 1 << 5
	bitCD = 1 << 4

	headerLen = 12
	opcodeOf  = 0xf << 11
	rcodeOf   = 0xf
)

// staleTTL is what clients are told of an answer that is served although it has
// expired (RFC 8767 section 4), in seconds.
const staleTTL = 30

// Answer is the answer to one question, in wire format. It is shared: whoever
// has one reads it, from any goroutine, and copies what it wants to change.
type Answer struct {
	key  key
	hash uint64
	// wire is the whole message: ID 0, the question in lower case, no OPT record.
	wire []byte
	// ttls are the offsets of the TTLs in wire.
	ttls   []uint16
	kind   kind
	stored time.Time
	// life is how long after stored it counts as fresh; 0 if it must not be kept.
	life time.Duration

	// hits, up to prefetchHits, says whether somebody would miss it.
	hits atomic.Uint32
	// visited is set by each hit and cleared by the hand of the cache.
	visited atomic.Bool
	// refreshing is set while a new answer is on its way.
	refreshing atomic.Bool
	// retryAfter is how long after stored nobody shall be asked again, because it
	// was in vain; 0 if it was not.
	retryAfter atomic.Int64

	// next is the next in the same bucket. older and newer belong to the shard's
	// mutex.
	next         atomic.Pointer[Answer]
	older, newer *Answer
}

// kind is what an answer says.
type kind uint8

const (
	positive kind = iota // there is something
	denial               // there is nothing (RFC 2308)
	failure              // nobody knows (RFC 9520)
	kinds
)

// Append appends the whole message to dst and returns it, with what is left of
// the TTLs at now. It allocates nothing if dst has room for Len octets. The
// message is a response without an OPT record; what the client sent and the
// answer does not know is the caller's to write into it: the ID (octets 0 and 1),
// RD and CD of the header where they differ, AD, which is as the upstream had it,
// and the question's name in the client's spelling (from octet 12 on), at which
// the records with that owner point. Names that end as that one does may point
// there, too, and then are spelled alike (RFC 4343 section 4.1 expects that).
func (a *Answer) Append(dst []byte, now time.Time) []byte {
	start := len(dst)
	dst = append(dst, a.wire...)
	out := dst[start:]
	age := now.Sub(a.stored)
	stale := a.life > 0 && age >= a.life
	seconds := uint32(max(age, 0) / time.Second)
	for _, off := range a.ttls {
		ttl := binary.BigEndian.Uint32(out[off:])
		if stale {
			ttl = staleTTL
		} else {
			ttl -= min(seconds, ttl)
		}
		binary.BigEndian.PutUint32(out[off:], ttl)
	}
	return dst
}

// Len returns the length of the message in octets, at most 65535.
func (a *Answer) Len() int { return len(a.wire) }

// Rcode returns the response code, 0 to 15.
func (a *Answer) Rcode() int { return int(a.wire[3] & rcodeOf) }

// AuthenticatedData reports whether the upstream says that it verified the answer.
func (a *Answer) AuthenticatedData() bool { return a.wire[3]&bitAD != 0 }

// message returns the answer as an object of its own, the question spelled as in
// name, which is in wire format.
func (a *Answer) message(name []byte, now time.Time) (*dns.Msg, error) {
	wire := a.Append(make([]byte, 0, len(a.wire)), now)
	copy(wire[headerLen:], name)
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return m, nil
}

// newAnswer makes an Answer of what sift left of a message.
func newAnswer(k key, m *dns.Msg, now time.Time) (*Answer, error) {
	packed := dns.Msg{
		MsgHdr: dns.MsgHdr{
			Response: true, RecursionAvailable: true, AuthenticatedData: m.AuthenticatedData,
			RecursionDesired: k.flags&RecursionDesired != 0, CheckingDisabled: k.flags&CheckingDisabled != 0,
			Rcode: m.Rcode,
		},
		Compress: true,
		Question: []dns.Question{{Name: k.text(), Qtype: k.qtype, Qclass: dns.ClassINET}},
		Answer:   m.Answer, Ns: m.Ns,
	}
	wire, err := packed.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	if len(wire) > dns.MaxMsgSize-1 {
		return nil, errTooLarge
	}
	a := &Answer{key: k, wire: wire, stored: now}
	a.kind, a.life = judge(m)
	if a.ttls, err = ttlOffsets(wire); err != nil {
		return nil, err
	}
	return a, nil
}

// newFailure makes the answer that says that nobody had one.
func newFailure(k key, now time.Time) (*Answer, error) {
	return newAnswer(k, &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}, now)
}

var errMalformed = errors.New("the message is malformed")

// ttlOffsets returns where the TTLs of a message with one question are.
func ttlOffsets(wire []byte) ([]uint16, error) {
	off, ok := skipName(wire, headerLen)
	off += 4
	if !ok || off > len(wire) {
		return nil, errMalformed
	}
	n := recordsOf(wire)
	out := make([]uint16, 0, n)
	for range n {
		if off, ok = skipName(wire, off); !ok || off+10 > len(wire) {
			return nil, errMalformed
		}
		out = append(out, uint16(off+4))
		off += 10 + int(binary.BigEndian.Uint16(wire[off+8:]))
	}
	if off > len(wire) {
		return nil, errMalformed
	}
	return out, nil
}

// recordsOf returns how many records the header of wire promises.
func recordsOf(wire []byte) int {
	word := func(i int) int { return int(binary.BigEndian.Uint16(wire[2*i:])) }
	return word(3) + word(4) + word(5)
}

// skipName returns the offset behind the name at off.
func skipName(wire []byte, off int) (int, bool) {
	for off < len(wire) {
		n := int(wire[off])
		switch {
		case n == 0:
			return off + 1, true
		case n >= 0xc0:
			return off + 2, off+2 <= len(wire)
		case n > 63:
			return 0, false
		}
		off += n + 1
	}
	return 0, false
}
