package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

const (
	ipHeader = 40
	icmpv6   = 58
	// hopLimit is that of all neighbour discovery: who sees another one knows that a
	// router has sent it on.
	hopLimit = 255
)

// AllNodes returns the group of everybody on the link.
func AllNodes() netip.Addr { return netip.IPv6LinkLocalAllNodes() }

// GroupMAC returns where packets to a group of IPv6 are sent on a link.
func GroupMAC(group netip.Addr) MAC {
	b := group.As16()
	return MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// Packet returns the IPv6 packet of a message of neighbour discovery, with the
// message's checksum. Both addresses must be of IPv6; source is unspecified in a
// probe.
func Packet(source, destination netip.Addr, message []byte) []byte {
	b := make([]byte, ipHeader, ipHeader+len(message))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(message)))
	b[6], b[7] = icmpv6, hopLimit
	from, to := source.As16(), destination.As16()
	copy(b[8:], from[:])
	copy(b[24:], to[:])
	b = append(b, message...)
	binary.BigEndian.PutUint16(b[ipHeader+2:], checksum(b))
	return b
}

// checksum is that of RFC 4443 over a packet whose checksum is 0: over its
// addresses, its length and its kind as well.
func checksum(packet []byte) uint16 {
	sum := uint32(len(packet)-ipHeader) + icmpv6
	for b := packet[8:]; len(b) > 0; b = b[min(2, len(b)):] {
		sum += uint32(b[0]) << 8
		if len(b) > 1 {
			sum += uint32(b[1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// ParsePacket returns the source of an IPv6 packet, and the ICMPv6 message in it.
// What has come through a router is an error, as is what has extension headers:
// neighbour discovery has no use for these. The checksum is not looked at: the link
// has its own, and a packet of this machine may not have one yet.
func ParsePacket(b []byte) (source netip.Addr, message []byte, err error) {
	switch {
	case len(b) < ipHeader || b[0]>>4 != 6:
		return source, nil, errors.New("no packet of IPv6")
	case b[6] != icmpv6:
		return source, nil, fmt.Errorf("packet of protocol %d", b[6])
	case b[7] != hopLimit:
		return source, nil, fmt.Errorf("neighbour discovery with hop limit %d", b[7])
	}
	size := int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < ipHeader+size {
		return source, nil, fmt.Errorf("packet of %d bytes, and it says %d", len(b)-ipHeader, size)
	}
	return netip.AddrFrom16([16]byte(b[8:24])), b[ipHeader : ipHeader+size], nil
}
