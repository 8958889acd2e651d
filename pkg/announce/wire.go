package announce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/signpost-dev/signpost/pkg/announce/claim"
	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// A message or a reply is sent as one datagram, or as several if it is long:
//
//	0  "SGNC"  version  kind  part  parts
//	8  epoch   those of the message, also in
//	16 number  the reply to it
//	24 a part of the text, partSize bytes but in the last one
//
// The parts are short enough for any link, so that none of them is cut up again.
const (
	magic       = "SGNC"
	wireVersion = 1
	headerSize  = 24
	partSize    = 1200
	maxParts    = 255
)

type kind uint8

const (
	kindMessage kind = 1 + iota
	kindReply
)

func (k kind) String() string {
	switch k {
	case kindMessage:
		return "message"
	case kindReply:
		return "reply"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// errTooLong: so many addresses do not fit. It takes 18,000 of IPv6.
var errTooLong = errors.New("too long to be sent")

// header is what each datagram begins with.
type header struct {
	kind          kind
	part, parts   uint8
	epoch, number uint64
}

// datagrams cuts a text into what is sent.
func datagrams(h header, text []byte) ([][]byte, error) {
	parts := max(1, (len(text)+partSize-1)/partSize)
	if parts > maxParts {
		return nil, fmt.Errorf("%w: %d bytes", errTooLong, len(text))
	}
	out := make([][]byte, 0, parts)
	for i := range parts {
		b := append(make([]byte, 0, headerSize+partSize), magic...)
		b = append(b, wireVersion, byte(h.kind), byte(i), byte(parts))
		b = binary.BigEndian.AppendUint64(b, h.epoch)
		b = binary.BigEndian.AppendUint64(b, h.number)
		out = append(out, append(b, text[i*partSize:min(len(text), (i+1)*partSize)]...))
	}
	return out, nil
}

// readHeader reads what datagrams has written, and returns the part of the text.
func readHeader(b []byte) (header, []byte, error) {
	if len(b) < headerSize || string(b[:4]) != magic {
		return header{}, nil, errors.New("not a message of an announcer")
	}
	if b[4] != wireVersion {
		return header{}, nil, fmt.Errorf("version %d, and this is %d", b[4], wireVersion)
	}
	h := header{
		kind: kind(b[5]), part: b[6], parts: b[7],
		epoch: binary.BigEndian.Uint64(b[8:]), number: binary.BigEndian.Uint64(b[16:]),
	}
	text := b[headerSize:]
	switch last := h.part == h.parts-1; {
	case h.kind != kindMessage && h.kind != kindReply:
		return header{}, nil, fmt.Errorf("kind %d is unknown", b[5])
	case h.part >= h.parts:
		return header{}, nil, fmt.Errorf("part %d of %d", h.part, h.parts)
	case len(text) > partSize || !last && len(text) < partSize:
		return header{}, nil, fmt.Errorf("part %d of %d has %d bytes", h.part, h.parts, len(text))
	}
	return h, text, nil
}

// gathering is what has come of a text in several parts. The zero value has none.
type gathering struct {
	header  header
	parts   [][]byte
	missing int
}

// add takes in a part, and returns the text if it is complete. Is there a part of a newer
// text, the rest of the one before is not waited for.
func (g *gathering) add(h header, part []byte) ([]byte, bool) {
	if h.parts == 1 {
		return part, true
	}
	same := h
	same.part = 0
	if g.parts == nil || g.header != same {
		*g = gathering{same, make([][]byte, h.parts), int(h.parts)}
	}
	if g.parts[h.part] == nil {
		g.parts[h.part] = append([]byte{}, part...)
		g.missing--
	}
	if g.missing > 0 {
		return nil, false
	}
	var text []byte
	for _, p := range g.parts {
		text = append(text, p...)
	}
	g.parts = nil
	return text, true
}

const (
	flagLeaving = 1
	// Of an address: it is of IPv6, and it is held.
	flagSix  = 1
	flagHeld = 2
)

// encodeMessage also tells the addresses of the sender's interfaces, by which
// others know its answers on the link from those of strangers.
//
//	flags  name  how many interfaces (1)  their MACs  claims
func encodeMessage(m claim.Message, macs []frame.MAC) ([][]byte, error) {
	var flags byte
	if m.Leaving {
		flags = flagLeaving
	}
	text := appendName([]byte{flags}, m.From)
	macs = macs[:min(len(macs), 255)]
	text = append(text, byte(len(macs)))
	for _, mac := range macs {
		text = append(text, mac[:]...)
	}
	for _, c := range m.Claims {
		text = appendAddress(text, c.Address, c.Held)
	}
	return datagrams(header{kind: kindMessage, epoch: m.Epoch, number: m.Number}, text)
}

func decodeMessage(h header, text []byte) (claim.Message, []frame.MAC, error) {
	r := reader{text}
	m := claim.Message{Epoch: h.epoch, Number: h.number}
	flags := r.byte()
	m.Leaving = flags&flagLeaving != 0
	m.From = r.name()
	macs := make([]frame.MAC, 0, 4)
	for range r.byte() {
		macs = append(macs, frame.MAC(r.next(6)))
	}
	for len(r.rest) > 0 {
		address, held := r.address()
		m.Claims = append(m.Claims, claim.Claim{Address: address, Held: held})
	}
	if r.rest == nil || flags > flagLeaving {
		return claim.Message{}, nil, errors.New("message that cannot be read")
	}
	return m, macs, nil
}

// encodeReply: name, and then for each denial the holder's name and the address,
// without the name if it is the one before.
func encodeReply(reply claim.Reply) ([][]byte, error) {
	text := appendName(nil, reply.From)
	for i, d := range reply.Denied {
		if again := i > 0 && reply.Denied[i-1].Holder == d.Holder; again {
			text = append(text, sameHolder)
		} else {
			text = appendName(append(text, newHolder), d.Holder)
		}
		text = appendAddress(text, d.Address, false)
	}
	return datagrams(header{kind: kindReply, epoch: reply.Epoch, number: reply.Number}, text)
}

const (
	newHolder  = 0
	sameHolder = 1
)

func decodeReply(h header, text []byte) (claim.Reply, error) {
	r := reader{text}
	reply := claim.Reply{From: r.name(), Epoch: h.epoch, Number: h.number}
	holder := ""
	for len(r.rest) > 0 {
		if r.byte() == newHolder {
			holder = r.name()
		}
		address, _ := r.address()
		reply.Denied = append(reply.Denied, claim.Denial{Address: address, Holder: holder})
	}
	if r.rest == nil {
		return claim.Reply{}, errors.New("reply that cannot be read")
	}
	return reply, nil
}

func appendName(b []byte, name string) []byte {
	name = name[:min(len(name), 255)]
	return append(append(b, byte(len(name))), name...)
}

func appendAddress(b []byte, a netip.Addr, held bool) []byte {
	var flags byte
	if held {
		flags = flagHeld
	}
	if a.Is4() {
		four := a.As4()
		return append(append(b, flags), four[:]...)
	}
	six := a.As16()
	return append(append(b, flags|flagSix), six[:]...)
}

// reader reads a text from its begin. rest is nil once something was not as it
// should be.
type reader struct{ rest []byte }

func (r *reader) next(n int) []byte {
	if len(r.rest) < n {
		r.rest = nil
		return make([]byte, n)
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) byte() byte { return r.next(1)[0] }

func (r *reader) name() string { return string(r.next(int(r.byte()))) }

func (r *reader) address() (a netip.Addr, held bool) {
	flags := r.byte()
	switch {
	case flags > flagSix|flagHeld:
		r.rest = nil
	case flags&flagSix != 0:
		a = netip.AddrFrom16([16]byte(r.next(16)))
	default:
		a = netip.AddrFrom4([4]byte(r.next(4)))
	}
	return a, flags&flagHeld != 0
}
