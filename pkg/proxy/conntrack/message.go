package conntrack

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/proxy/conntrack/stale"
)

// What package nl does not name of linux/netfilter/nfnetlink_conntrack.h,
// nf_conntrack_common.h and nf_conntrack_sctp.h.
const (
	ctaFilter           = 25
	ctaStatusMask       = 26
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	ctaSCTPState        = 1

	filterSource      = 1 << 0
	filterDestination = 1 << 1
	filterProtocol    = 1 << 3
	filterSourcePort  = 1 << 4
	filterDestPort    = 1 << 5

	statusSeenReply = 1 << 1
	statusAssured   = 1 << 2
	statusDstNAT    = 1 << 5

	sctpCookieEchoed = 3 // states up to this one come before ESTABLISHED
)

const (
	headerLen = unix.SizeofNlMsghdr
	getFlows  = nlTable | nl.IPCTNL_MSG_CT_GET
	cutFlow   = nlTable | nl.IPCTNL_MSG_CT_DELETE
	nlTable   = unix.NFNL_SUBSYS_CTNETLINK << 8
)

// message is a netlink message without its header.
type message struct {
	kind uint16
	seq  uint32
	data []byte
}

// messages iterates over what the kernel has sent at once.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= headerLen {
			n := int(binary.NativeEndian.Uint32(b))
			if n < headerLen || n > len(b) {
				return
			}
			m := message{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:]), b[headerLen:n]}
			if !yield(m) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// error returns what an NLMSG_ERROR or NLMSG_DONE says; nil for success.
func (m message) error() error {
	if len(m.data) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(m.data)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func align(n int) int { return (n + 3) &^ 3 }

// attributes iterates over the attributes in b: type, value, and all of it as it stands.
func attributes(b []byte) iter.Seq2[uint16, attribute] {
	return func(yield func(uint16, attribute) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofNlAttr || n > len(b) {
				return
			}
			end := min(align(n), len(b))
			if !yield(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, attribute{b[unix.SizeofNlAttr:n], b[:end]}) {
				return
			}
			b = b[end:]
		}
	}
}

type attribute struct{ value, raw []byte }

func (a attribute) uint16() uint16 {
	if len(a.value) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(a.value)
}

func (a attribute) uint32() uint32 {
	if len(a.value) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a.value)
}

func (a attribute) uint8() uint8 {
	if len(a.value) < 1 {
		return 0
	}
	return a.value[0]
}

// entry is an entry of the table; its bytes are the buffer's.
type entry struct {
	flow stale.Flow
	// tuple, zone and id name it to the kernel; zone may be empty.
	tuple, zone, id []byte
}

// parse reads an entry of a Service's protocol; false for any other.
func parse(data []byte) (entry, bool) {
	var e entry
	if len(data) < nl.SizeofNfgenmsg {
		return e, false
	}
	var sent, replied tuple
	var status uint32
	half := false
	for kind, a := range attributes(data[nl.SizeofNfgenmsg:]) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			e.tuple, sent = a.raw, parseTuple(a.value)
		case nl.CTA_TUPLE_REPLY:
			replied = parseTuple(a.value)
		case nl.CTA_STATUS:
			status = a.uint32()
		case nl.CTA_PROTOINFO:
			half = halfOpen(a.value)
		case nl.CTA_ZONE:
			e.zone = a.raw
		case nl.CTA_ID:
			e.id = a.raw
		}
	}
	answered := status&statusSeenReply != 0
	e.flow = stale.Flow{
		Protocol: sent.protocol, To: netip.AddrPortFrom(sent.dst, sent.dport), Server: netip.AddrPortFrom(replied.src, replied.sport),
		Answered: answered, HalfOpen: half || !answered,
	}
	known := sent.protocol == stale.TCP || sent.protocol == stale.UDP || sent.protocol == stale.SCTP
	return e, known && len(e.tuple) > 0 && len(e.id) > 0 && sent.dst.IsValid() && replied.src.IsValid()
}

// halfOpen reads a CTA_PROTOINFO.
func halfOpen(b []byte) bool {
	for kind, proto := range attributes(b) {
		for field, a := range attributes(proto.value) {
			state := a.uint8()
			switch {
			case kind == nl.CTA_PROTOINFO_TCP && field == nl.CTA_PROTOINFO_TCP_STATE:
				return state == nl.TCP_CONNTRACK_SYN_SENT || state == nl.TCP_CONNTRACK_SYN_RECV || state == nl.TCP_CONNTRACK_SYN_SENT2
			case kind == nl.CTA_PROTOINFO_SCTP && field == ctaSCTPState:
				return state <= sctpCookieEchoed
			}
		}
	}
	return false
}

// tuple is one direction of a flow.
type tuple struct {
	src, dst     netip.Addr
	protocol     stale.Protocol
	sport, dport uint16
}

func parseTuple(b []byte) tuple {
	var t tuple
	for kind, part := range attributes(b) {
		for field, a := range attributes(part.value) {
			switch {
			case kind == nl.CTA_TUPLE_IP && (field == nl.CTA_IP_V4_SRC || field == nl.CTA_IP_V6_SRC):
				t.src, _ = netip.AddrFromSlice(a.value)
			case kind == nl.CTA_TUPLE_IP:
				t.dst, _ = netip.AddrFromSlice(a.value)
			case kind == nl.CTA_TUPLE_PROTO && field == nl.CTA_PROTO_NUM:
				t.protocol = stale.Protocol(a.uint8())
			case kind == nl.CTA_TUPLE_PROTO && field == nl.CTA_PROTO_SRC_PORT:
				t.sport = a.uint16()
			case kind == nl.CTA_TUPLE_PROTO && field == nl.CTA_PROTO_DST_PORT:
				t.dport = a.uint16()
			}
		}
	}
	return t
}
