package peers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// messageSize is the length of every message in bytes, whatever it says: a reply
// is never longer than what asked for it, so that nobody can use a node to flood
// another.
//
//	0  "SGNP"  version  kind  0 0
//	8  nonce
//	16 probe, 0          answer, watermark and 0
//	   ask, address      opinion, state and silence in ms and 0
//	   inquiry, key      finding, state, cause, detail and 0
const messageSize = 32

const wireVersion = 1

const magic = "SGNP"

type kind uint8

const (
	kindProbe kind = 1 + iota
	kindAnswer
	kindAsk
	kindOpinion
	kindInquiry
	kindFinding
)

func (k kind) String() string {
	switch k {
	case kindProbe:
		return "probe"
	case kindAnswer:
		return "answer"
	case kindAsk:
		return "ask"
	case kindOpinion:
		return "opinion"
	case kindInquiry:
		return "inquiry"
	case kindFinding:
		return "finding"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// message is one datagram. Fields that its kind does not have are zero.
type message struct {
	kind kind
	// nonce is chosen by who asks, at random; the reply has the same.
	nonce uint64
	// watermark is what an answer says.
	watermark uint64
	// subject is the address of the node that an ask is about.
	subject netip.Addr
	// opinion is what an opinion says. It is cut to milliseconds on the wire.
	opinion Opinion
	// backend is what an inquiry is about.
	backend [16]byte
	// finding is what a finding says.
	finding Finding
}

func (m message) encode() [messageSize]byte {
	var b [messageSize]byte
	copy(b[:], magic)
	b[4], b[5] = wireVersion, byte(m.kind)
	binary.BigEndian.PutUint64(b[8:], m.nonce)
	switch m.kind {
	case kindProbe:
	case kindAnswer:
		binary.BigEndian.PutUint64(b[16:], m.watermark)
	case kindAsk:
		if m.subject.IsValid() {
			address := m.subject.As16()
			copy(b[16:], address[:])
		}
	case kindOpinion:
		b[16] = byte(m.opinion.State)
		ms := min(max(m.opinion.Silence.Milliseconds(), 0), math.MaxUint32)
		binary.BigEndian.PutUint32(b[20:], uint32(ms))
	case kindInquiry:
		copy(b[16:], m.backend[:])
	case kindFinding:
		b[16], b[17] = m.finding.State, m.finding.Cause
		binary.BigEndian.PutUint16(b[18:], m.finding.Detail)
	}
	return b
}

// decode reads a message. It takes only what encode can have written: whatever a
// later version may put into the spare bytes changes the version, too.
func decode(b []byte) (message, error) {
	if len(b) != messageSize {
		return message{}, fmt.Errorf("%d bytes instead of %d", len(b), messageSize)
	}
	if string(b[:4]) != magic {
		return message{}, errors.New("not a message of a peer")
	}
	if b[4] != wireVersion {
		return message{}, fmt.Errorf("version %d, and this is %d", b[4], wireVersion)
	}
	m := message{kind: kind(b[5]), nonce: binary.BigEndian.Uint64(b[8:])}
	switch m.kind {
	case kindProbe:
	case kindAnswer:
		m.watermark = binary.BigEndian.Uint64(b[16:])
	case kindAsk:
		m.subject = netip.AddrFrom16([16]byte(b[16:])).Unmap()
	case kindOpinion:
		m.opinion = Opinion{State: State(b[16]), Silence: time.Duration(binary.BigEndian.Uint32(b[20:])) * time.Millisecond}
		if m.opinion.State > Silent {
			return message{}, fmt.Errorf("state %d is unknown", b[16])
		}
	case kindInquiry:
		m.backend = [16]byte(b[16:])
	case kindFinding:
		m.finding = Finding{State: b[16], Cause: b[17], Detail: binary.BigEndian.Uint16(b[18:])}
	default:
		return message{}, fmt.Errorf("kind %d is unknown", b[5])
	}
	if m.encode() != [messageSize]byte(b) {
		return message{}, errors.New("spare bytes are not 0")
	}
	return m, nil
}
