package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// MAC is the address of an interface on an Ethernet link. The zero value is none.
type MAC [6]byte

// Broadcast returns the address of everybody on the link.
func Broadcast() MAC { return MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Operation is what an ARP packet is.
type Operation uint16

// The operations.
const (
	Request Operation = 1
	Reply   Operation = 2
)

// ARP is a packet of ARP for IPv4 over Ethernet, without the Ethernet header.
type ARP struct {
	Operation Operation
	Sender    MAC
	// SenderIP is unspecified in a Probe.
	SenderIP netip.Addr
	Target   MAC
	TargetIP netip.Addr
}

// arpHeader is: Ethernet, IPv4, and the lengths of their addresses.
func arpHeader() []byte { return []byte{0, 1, 8, 0, 6, 4} }

const arpSize = 28

// ParseARP reads a packet. What follows it, as short frames are filled up, is
// ignored.
func ParseARP(b []byte) (ARP, error) {
	if len(b) < arpSize {
		return ARP{}, fmt.Errorf("ARP packet of %d bytes", len(b))
	}
	if !bytes.Equal(b[:6], arpHeader()) {
		return ARP{}, errors.New("ARP packet that is not of IPv4 over Ethernet")
	}
	p := ARP{
		Operation: Operation(binary.BigEndian.Uint16(b[6:])),
		Sender:    MAC(b[8:14]), SenderIP: netip.AddrFrom4([4]byte(b[14:18])),
		Target: MAC(b[18:24]), TargetIP: netip.AddrFrom4([4]byte(b[24:28])),
	}
	if p.Operation != Request && p.Operation != Reply {
		return ARP{}, fmt.Errorf("ARP packet of operation %d", p.Operation)
	}
	return p, nil
}

// Bytes writes the packet. Both IP addresses must be of IPv4.
func (p ARP) Bytes() []byte {
	b := binary.BigEndian.AppendUint16(arpHeader(), uint16(p.Operation))
	sender, target := p.SenderIP.As4(), p.TargetIP.As4()
	b = append(append(b, p.Sender[:]...), sender[:]...)
	return append(append(b, p.Target[:]...), target[:]...)
}

// Asks says whether the packet wants to know who has its TargetIP, or announces
// that the sender has it: then nobody has to answer, but who has it as well.
func (p ARP) Asks() bool { return p.Operation == Request && p.SenderIP != p.TargetIP }

// AnswerARP returns the reply to a request: mac has the address.
func AnswerARP(request ARP, mac MAC) ARP {
	return ARP{Operation: Reply, Sender: mac, SenderIP: request.TargetIP, Target: request.Sender, TargetIP: request.SenderIP}
}

// AnnounceARP returns what tells everybody that mac has an address from now on
// (RFC 5227: a request, as more hosts believe it than a reply).
func AnnounceARP(address netip.Addr, mac MAC) ARP {
	return ARP{Operation: Request, Sender: mac, SenderIP: address, TargetIP: address}
}

// ProbeARP returns what asks whether anybody has an address, without a word about
// who asks (RFC 5227).
func ProbeARP(address netip.Addr, mac MAC) ARP {
	return ARP{Operation: Request, Sender: mac, SenderIP: netip.IPv4Unspecified(), TargetIP: address}
}
