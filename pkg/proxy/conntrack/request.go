package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/proxy/conntrack/stale"
)

// getRequest asks for all entries of a family that the filter is for.
func getRequest(family uint8, f stale.Filter) []byte {
	request := nl.NewNetlinkRequest(getFlows, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	sent, flags := end(f.Protocol, netip.AddrPortFrom(f.To, f.ToPort), toServer())
	replied, replyFlags := end(f.Protocol, f.Server, fromServer())
	if flags|replyFlags != 0 {
		filter := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
		if flags != 0 {
			request.AddData(sent)
			filter.AddRtAttr(ctaFilterOrigFlags, nl.Uint32Attr(flags))
		}
		if replyFlags != 0 {
			request.AddData(replied)
			filter.AddRtAttr(ctaFilterReplyFlags, nl.Uint32Attr(replyFlags))
		}
		request.AddData(filter)
	}
	if status, mask := status(f); mask != 0 {
		request.AddData(nl.NewRtAttr(nl.CTA_STATUS, nl.BEUint32Attr(status)))
		request.AddData(nl.NewRtAttr(ctaStatusMask, nl.BEUint32Attr(mask)))
	}
	return request.Serialize()
}

// place is where the server's end of a flow stands in a tuple.
type place struct {
	tuple, addr, port int
	// addrFlag and portFlag say that the address and the port count.
	addrFlag, portFlag uint32
}

func toServer() place {
	return place{nl.CTA_TUPLE_ORIG, nl.CTA_IP_V4_DST, nl.CTA_PROTO_DST_PORT, filterDestination, filterDestPort}
}

func fromServer() place {
	return place{nl.CTA_TUPLE_REPLY, nl.CTA_IP_V4_SRC, nl.CTA_PROTO_SRC_PORT, filterSource, filterSourcePort}
}

// end returns the tuple with what is known of an end, and flags that say what that
// is. An IPv6 address is left out: the kernel (6.18 and all before) then shows
// what has another one, because it takes ipv6_addr_cmp for ipv6_addr_equal.
func end(proto stale.Protocol, at netip.AddrPort, p place) (*nl.RtAttr, uint32) {
	out := nl.NewRtAttr(unix.NLA_F_NESTED|p.tuple, nil)
	flags := uint32(0)
	if a := at.Addr(); a.Is4() {
		out.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(p.addr, a.AsSlice())
		flags |= p.addrFlag
	}
	if proto != 0 {
		l4 := out.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
		l4.AddRtAttr(nl.CTA_PROTO_NUM, []byte{byte(proto)})
		flags |= filterProtocol
		if at.Port() != 0 {
			l4.AddRtAttr(p.port, nl.BEUint16Attr(at.Port()))
			flags |= p.portFlag
		}
	}
	return out, flags
}

// status returns which bits of the status are to have which value.
func status(f stale.Filter) (value, mask uint32) {
	if f.Translated {
		value, mask = value|statusDstNAT, mask|statusDstNAT
	}
	if f.Unanswered {
		mask |= statusSeenReply
	}
	if f.Unassured {
		mask |= statusAssured
	}
	return value, mask
}

// batch deletes entries, many at a time: a message of its own for each costs ten times as much.
type batch struct {
	conn    *conn
	family  uint8
	pending []byte
	count   int
	deleted int
}

// batchSize is how many entries go into one message. Even if the kernel has
// something to say to each, its answers fit into the socket's buffer.
const batchSize = 128

func (b *batch) add(e entry) error {
	n := headerLen + nl.SizeofNfgenmsg + len(e.tuple) + len(e.zone) + len(e.id)
	b.pending = binary.NativeEndian.AppendUint32(b.pending, uint32(n))
	b.pending = binary.NativeEndian.AppendUint16(b.pending, cutFlow)
	b.pending = binary.NativeEndian.AppendUint16(b.pending, unix.NLM_F_REQUEST)
	b.pending = append(b.pending, make([]byte, 8)...) // sequence and port: answers are only counted
	b.pending = append(b.pending, b.family, nl.NFNETLINK_V0, 0, 0)
	b.pending = append(b.pending, e.tuple...)
	b.pending = append(b.pending, e.zone...)
	b.pending = append(b.pending, e.id...)
	if b.count++; b.count < batchSize {
		return nil
	}
	return b.flush()
}

func (b *batch) flush() error {
	if b.count == 0 {
		return nil
	}
	sent := b.count
	err := b.conn.send(b.pending)
	b.pending, b.count = b.pending[:0], 0
	if err != nil {
		return fmt.Errorf("deleting %d entries: %w", sent, err)
	}
	refusals, err := b.conn.refusals()
	b.deleted += sent - len(refusals)
	for _, refusal := range refusals {
		if err == nil && !errors.Is(refusal, unix.ENOENT) { // it may have ended by itself
			err = refusal
		}
	}
	if err != nil {
		return fmt.Errorf("deleting entries: %w", err)
	}
	return nil
}
