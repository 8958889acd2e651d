package records

import (
	"net/netip"

	"github.com/miekg/dns"
)

func (v *View) header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: v.ttl}
}

// addressRecords returns the records of one type, A or AAAA, for those of addrs
// that are of its family, turned by rotation places. For any other
// type there are none. addrs holds no address twice.
//
// The records of one answer share three allocations, however many they are.
func (v *View) addressRecords(owner string, qtype uint16, addrs []netip.Addr, rotation uint32) []dns.RR {
	n := 0
	for _, a := range addrs {
		if isOfType(a, qtype) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	first := int(rotation % uint32(n))
	if qtype == dns.TypeA {
		return v.recordsA(owner, addrs, n, first)
	}
	return v.recordsAAAA(owner, addrs, n, first)
}

func isOfType(a netip.Addr, qtype uint16) bool {
	return qtype == dns.TypeA && a.Is4() || qtype == dns.TypeAAAA && a.Is6()
}

// recordsA puts the first IPv4 address at index first, and goes on from there in
// a circle.
func (v *View) recordsA(owner string, addrs []netip.Addr, n, first int) []dns.RR {
	out, block, bytes := make([]dns.RR, n), make([]dns.A, n), make([]byte, 0, 4*n)
	for _, a := range addrs {
		if !a.Is4() {
			continue
		}
		b := a.As4()
		bytes = append(bytes, b[:]...)
		block[first] = dns.A{Hdr: v.header(owner, dns.TypeA), A: bytes[len(bytes)-4 : len(bytes) : len(bytes)]}
		out[first] = &block[first]
		first = (first + 1) % n
	}
	return out
}

func (v *View) recordsAAAA(owner string, addrs []netip.Addr, n, first int) []dns.RR {
	out, block, bytes := make([]dns.RR, n), make([]dns.AAAA, n), make([]byte, 0, 16*n)
	for _, a := range addrs {
		if !a.Is6() {
			continue
		}
		b := a.As16()
		bytes = append(bytes, b[:]...)
		block[first] = dns.AAAA{Hdr: v.header(owner, dns.TypeAAAA), AAAA: bytes[len(bytes)-16 : len(bytes) : len(bytes)]}
		out[first] = &block[first]
		first = (first + 1) % n
	}
	return out
}

// addressRecord returns the record for one address, of the type of its family.
func (v *View) addressRecord(owner string, addr netip.Addr) dns.RR {
	if addr.Is4() {
		return &dns.A{Hdr: v.header(owner, dns.TypeA), A: addr.AsSlice()}
	}
	return &dns.AAAA{Hdr: v.header(owner, dns.TypeAAAA), AAAA: addr.AsSlice()}
}

// weight is that of one of n SRV records, as CoreDNS has it.
func weight(n int) uint16 { return uint16(max(100/n, 1)) }

// srvSet collects SRV records and the addresses of their targets, each once.
type srvSet struct {
	view   *View
	owner  string
	weight uint16
	srv    []dns.RR
	extra  []dns.RR
	seen   map[srvKey]struct{}
}

// srvKey identifies an SRV record (port) or an address of a target (addr).
type srvKey struct {
	target string
	port   uint16
	addr   netip.Addr
}

func (s *srvSet) add(target string, port uint16, addr netip.Addr) {
	if s.isNew(srvKey{target: target, port: port}) {
		s.srv = append(s.srv, &dns.SRV{Hdr: s.view.header(s.owner, dns.TypeSRV), Weight: s.weight, Port: port, Target: target})
	}
	if s.isNew(srvKey{target: target, addr: addr}) {
		s.extra = append(s.extra, s.view.addressRecord(target, addr))
	}
}

func (s *srvSet) isNew(k srvKey) bool {
	if _, dup := s.seen[k]; dup {
		return false
	}
	if s.seen == nil {
		s.seen = map[srvKey]struct{}{}
	}
	s.seen[k] = struct{}{}
	return true
}

// answer returns what was collected, the records begun at the one that rotation
// chooses.
func (s *srvSet) answer(rotation uint32) Answer {
	if n := uint32(len(s.srv)); n > 1 {
		k := rotation % n
		s.srv = append(s.srv[k:len(s.srv):len(s.srv)], s.srv[:k]...)
	}
	return Answer{Answer: s.srv, Extra: s.extra}
}
