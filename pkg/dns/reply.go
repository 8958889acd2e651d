package dns

import (
	"slices"

	"github.com/miekg/dns"
)

// newReply makes the empty answer to q.
func (q *query) newReply(rcode int) *dns.Msg {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{
		Id:                 q.id,
		Response:           true,
		Opcode:             q.opcode,
		RecursionDesired:   q.rd,
		RecursionAvailable: true,
		CheckingDisabled:   q.cd,
		Rcode:              rcode,
	}}
	if q.name != "" {
		m.Question = []dns.Question{{Name: q.name, Qtype: q.qtype, Qclass: q.class}}
	}
	return m
}

// maxUDP is how large a datagram the client can receive and the server will send.
func (q *query) maxUDP() int {
	return int(min(max(q.udpSize, minUDPSize), maxUDPSize))
}

// pack writes m as the answer to q in at most size octets, into buf if it fits.
// What is left out first are the additional records, which nobody has to send;
// then as many of the answers as do not fit, and the client is told so.
//
// A message that cannot be packed, because a record in it is malformed, becomes
// a SERVFAIL.
func (q *query) pack(m *dns.Msg, size int, buf []byte) ([]byte, error) {
	m.Compress = true
	extra := m.Extra
	m.Extra = q.withOPT(extra)
	wire, err := m.PackBuffer(buf)
	if err != nil {
		failure := q.newReply(dns.RcodeServerFailure)
		failure.Extra = q.withOPT(nil)
		wire, packErr := failure.PackBuffer(buf)
		if packErr != nil {
			return nil, packErr
		}
		return wire, err
	}
	if len(wire) <= size {
		return wire, nil
	}
	if len(extra) > 0 {
		m.Extra = q.withOPT(nil)
		if wire, err = m.PackBuffer(buf); err != nil || len(wire) <= size {
			return wire, err
		}
	}
	m.Truncate(size)
	m.Compress = true
	return m.PackBuffer(buf)
}

// withOPT adds the OPT record that belongs into every answer to a question that
// had one. The client's options are not sent back.
func (q *query) withOPT(extra []dns.RR) []dns.RR {
	if !q.edns {
		return extra
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(maxUDPSize)
	if q.do {
		opt.SetDo()
	}
	return append(slices.Clip(extra), opt)
}
