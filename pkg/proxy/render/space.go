package render

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// space is what a tree goes by: its keys are series of digits below 16, one in a byte.
type space interface {
	// match returns what all packets match whose keys start with key.
	match(key string) string
	// name returns a chain name for key.
	name(tag, key string) string
	// entrance returns the start of a key by which a first chain is entered.
	entrance(key string) string
	// whole is the length of a key that names one address or port.
	whole() int
}

// addressSpace has keys of an address, alone or with protocol and port.
type addressSpace struct {
	family ruleset.Family
	// side is -d or -s.
	side string
}

// addressKey returns the key of an address.
func addressKey(a netip.Addr) string {
	b := a.AsSlice()
	out := make([]byte, 0, 2*len(b)+5)
	for _, x := range b {
		out = append(out, x>>4, x&15)
	}
	return string(out)
}

// protocols have a digit of a key each.
func protocols() []string { return []string{"sctp", "tcp", "udp"} }

// portKey returns the key of a protocol and port.
func portKey(proto string, port uint16) string {
	var p byte
	for i, name := range protocols() {
		if name == proto {
			p = byte(i)
		}
	}
	return string([]byte{p, byte(port >> 12), byte(port >> 8 & 15), byte(port >> 4 & 15), byte(port & 15)})
}

func (s addressSpace) digits() int { return s.family.Bits() / 4 }

func (s addressSpace) whole() int { return s.digits() }

func (s addressSpace) prefix(key string) netip.Prefix {
	b := make([]byte, s.digits()/2)
	n := min(len(key), s.digits())
	for i := range n {
		b[i/2] |= key[i] << (4 * (1 - i%2))
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, 4*n)
}

func (s addressSpace) match(key string) string {
	out := s.side + " " + s.prefix(key).String()
	if len(key) > s.digits() {
		out += " " + portSpace{}.match(key[s.digits():])
	}
	return out
}

func (s addressSpace) name(tag, key string) string {
	p := s.prefix(key)
	if len(key) > s.digits() {
		return ruleset.HashedName("NET-", tag+p.String()+portSpace{}.text(key[s.digits():]))
	}
	return s.readable(tag, p)
}

// readable says the prefix where it is short enough for it.
func (s addressSpace) readable(tag string, p netip.Prefix) string {
	name := ruleset.Prefix + tag + strings.ReplaceAll(p.String(), "/", "-")
	if s.family == ruleset.IPv6 || len(name) > ruleset.MaxNameLen {
		return ruleset.HashedName("NET-", tag+p.String())
	}
	return name
}

// entrance cuts off what is not of the address.
func (s addressSpace) entrance(key string) string { return key[:min(len(key), s.digits())] }

// portSpace has keys of protocol and port.
type portSpace struct{}

// ports returns the protocol and the range of ports of a key.
func (portSpace) ports(key string) (proto string, low, high int) {
	for i := 1; i < 5; i++ {
		low, high = low<<4, high<<4|15
		if i < len(key) {
			low, high = low|int(key[i]), high&^15|int(key[i])
		}
	}
	return protocols()[key[0]], low, high
}

func (s portSpace) match(key string) string {
	proto, low, high := s.ports(key)
	switch {
	case len(key) == 1:
		return "-p " + proto
	case low == high:
		return fmt.Sprintf("-p %s -m %s --dport %d", proto, proto, low)
	}
	return fmt.Sprintf("-p %s -m %s --dport %d:%d", proto, proto, low, high)
}

// text returns such as "TCP-30080-30095".
func (s portSpace) text(key string) string {
	proto, low, high := s.ports(key)
	return strings.ToUpper(proto) + "-" + strconv.Itoa(low) + "-" + strconv.Itoa(high)
}

func (portSpace) whole() int { return len(portKey("tcp", 0)) }

func (portSpace) entrance(key string) string { return key[:1] }

func (s portSpace) name(tag, key string) string { return ruleset.Prefix + tag + s.text(key) }
