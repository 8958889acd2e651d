package frame

import (
	"errors"
	"fmt"
	"net/netip"
)

// The types of ICMPv6 messages that this is about.
const (
	TypeSolicitation  = 135
	TypeAdvertisement = 136
)

const (
	// ndpSize is that of both messages without options.
	ndpSize = 24
	// The types of the options with the address of an interface.
	optionSource = 1
	optionTarget = 2
	// Flags of an advertisement.
	flagSolicited = 0x40
	flagOverride  = 0x20
)

// Solicitation asks who has an address. In a probe for doubles Source is none.
type Solicitation struct {
	Target netip.Addr
	Source MAC
}

// Advertisement says that an interface has an address.
type Advertisement struct {
	Target netip.Addr
	MAC    MAC
	// Solicited: it answers one host. Override: what was known before is no longer so.
	Solicited, Override bool
}

// ParseNDP reads an ICMPv6 message: one of both results is not nil, unless it is
// an error. ParsePacket has checked its hop limit.
func ParseNDP(b []byte) (*Solicitation, *Advertisement, error) {
	if len(b) < ndpSize {
		return nil, nil, fmt.Errorf("message of neighbour discovery of %d bytes", len(b))
	}
	target := netip.AddrFrom16([16]byte(b[8:24]))
	if b[1] != 0 || target.IsMulticast() || target.Is4In6() {
		return nil, nil, fmt.Errorf("message of neighbour discovery with code %d about %v", b[1], target)
	}
	source, at, err := options(b[ndpSize:])
	switch {
	case err != nil:
		return nil, nil, err
	case b[0] == TypeSolicitation:
		return &Solicitation{target, source}, nil, nil
	case b[0] == TypeAdvertisement:
		return nil, &Advertisement{target, at, b[4]&flagSolicited != 0, b[4]&flagOverride != 0}, nil
	}
	return nil, nil, fmt.Errorf("ICMPv6 message of type %d", b[0])
}

// options reads the addresses of interfaces among the options.
func options(b []byte) (source, target MAC, err error) {
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 || len(b) < 8*int(b[1]) {
			return source, target, errors.New("option of neighbour discovery that is cut off")
		}
		length := 8 * int(b[1])
		switch {
		case length != 8:
		case b[0] == optionSource:
			source = MAC(b[2:8])
		case b[0] == optionTarget:
			target = MAC(b[2:8])
		}
		b = b[length:]
	}
	return source, target, nil
}

// Bytes writes the message, with a checksum of 0: Packet makes it.
func (s Solicitation) Bytes() []byte {
	b := ndp(TypeSolicitation, 0, s.Target)
	if s.Source != (MAC{}) {
		b = append(append(b, optionSource, 1), s.Source[:]...)
	}
	return b
}

// Bytes writes the message, with a checksum of 0: Packet makes it.
func (a Advertisement) Bytes() []byte {
	var flags byte
	if a.Solicited {
		flags |= flagSolicited
	}
	if a.Override {
		flags |= flagOverride
	}
	b := ndp(TypeAdvertisement, flags, a.Target)
	return append(append(b, optionTarget, 1), a.MAC[:]...)
}

func ndp(kind, flags byte, target netip.Addr) []byte {
	at := target.As16()
	return append([]byte{kind, 0, 0, 0, flags, 0, 0, 0}, at[:]...)
}

// SolicitedNode returns the group to which questions about an address are sent.
func SolicitedNode(address netip.Addr) netip.Addr {
	a := address.As16()
	return netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
}
