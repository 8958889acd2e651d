package announce

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
)

// port is a link with sockets that hear questions on it. Its methods that send may
// be called concurrently.
type port struct {
	link     link
	arp, ndp *packet.Conn
	groups   *groups
	readers  sync.WaitGroup
}

// hears is told of what comes in at a port.
type hears interface {
	heardARP(*port, frame.ARP)
	heardSolicitation(p *port, source netip.Addr, s frame.Solicitation)
	heardAdvertisement(*port, frame.Advertisement)
}

// openPort opens the sockets of a link and has them read until close. It needs
// CAP_NET_RAW.
func openPort(l link, to hears) (*port, error) {
	arp, err := listenAt(l, unix.ETH_P_ARP, arpFilter())
	if err != nil {
		return nil, fmt.Errorf("socket for ARP at %s: %w", l.name, err)
	}
	ndp, err := listenAt(l, unix.ETH_P_IPV6, ndpFilter())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket for NDP at %s: %w", l.name, err), arp.Close())
	}
	p := &port{link: l, arp: arp, ndp: ndp, groups: newGroups(l.index)}
	p.readers.Go(func() { read(arp, func(b []byte, _ frame.MAC) { p.takeARP(b, to) }) })
	p.readers.Go(func() { read(ndp, func(b []byte, from frame.MAC) { p.takeNDP(b, from, to) }) })
	return p, nil
}

// close returns when nothing is read any more.
func (p *port) close() {
	_ = p.arp.Close() // ends the reader, and there is nothing to flush
	_ = p.ndp.Close()
	p.readers.Wait()
	p.groups.close()
}

func listenAt(l link, protocol int, filter []bpf.Instruction) (*packet.Conn, error) {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return nil, err
	}
	return packet.Listen(&net.Interface{Index: l.index}, packet.Datagram, protocol, &packet.Config{Filter: raw})
}

// whole is what a filter returns to take a packet, and not only its begin.
const whole = 1 << 16

// arpFilter lets requests and replies through, so that nothing else wakes the
// process. Replies are few: they are sent to who has asked.
func arpFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 4},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(frame.Request), SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(frame.Reply), SkipTrue: 1},
		bpf.RetConstant{Val: whole},
		bpf.RetConstant{Val: 0},
	}
}

// ndpFilter lets the two messages of neighbour discovery through that are about
// who has an address.
func ndpFilter() []bpf.Instruction {
	const nextHeader, icmpv6, icmpType = 6, 58, 40
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 6},
		bpf.LoadAbsolute{Off: nextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpv6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: icmpType, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: frame.TypeSolicitation, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: frame.TypeAdvertisement, SkipTrue: 1},
		bpf.RetConstant{Val: whole},
		bpf.RetConstant{Val: 0},
	}
}

// read reads until the socket is closed.
func read(conn *packet.Conn, take func(b []byte, from frame.MAC)) {
	var b [2048]byte
	for {
		n, from, err := conn.ReadFrom(b[:])
		switch {
		case err == nil:
			if from, ok := from.(*packet.Addr); ok && len(from.HardwareAddr) == len(frame.MAC{}) {
				take(b[:n], frame.MAC(from.HardwareAddr))
			}
		case errors.Is(err, unix.EBADF), errors.Is(err, os.ErrClosed): // closed
			return
		default:
			time.Sleep(time.Millisecond) // the link went down: one such error
		}
	}
}

func (p *port) takeARP(b []byte, to hears) {
	if packet, err := frame.ParseARP(b); err == nil {
		to.heardARP(p, packet)
	}
}

// takeNDP takes in a message. Who asks need not say where it is, if that is on the
// packet.
func (p *port) takeNDP(b []byte, from frame.MAC, to hears) {
	source, message, err := frame.ParsePacket(b)
	if err != nil {
		return
	}
	switch solicitation, advertisement, err := frame.ParseNDP(message); {
	case err != nil:
	case solicitation != nil:
		if solicitation.Source == (frame.MAC{}) {
			solicitation.Source = from
		}
		to.heardSolicitation(p, source, *solicitation)
	default:
		to.heardAdvertisement(p, *advertisement)
	}
}

// answerARP says that this node has what is asked for.
func (p *port) answerARP(request frame.ARP) error {
	return send(p.arp, request.Sender, frame.AnswerARP(request, p.link.mac).Bytes())
}

// answerNDP does the same. Who asks without an address of its own has to be told
// with all others.
func (p *port) answerNDP(source netip.Addr, s frame.Solicitation) error {
	a := frame.Advertisement{Target: s.Target, MAC: p.link.mac, Solicited: true, Override: true}
	if source.IsUnspecified() {
		a.Solicited = false
		return p.sendNDP(frame.AllNodes(), frame.GroupMAC(frame.AllNodes()), p.link.source(), a.Bytes())
	}
	return p.sendNDP(source, s.Source, p.link.source(), a.Bytes())
}

// announce tells everybody that this node has an address from now on.
func (p *port) announce(address netip.Addr) error {
	if address.Is4() {
		return send(p.arp, frame.Broadcast(), frame.AnnounceARP(address, p.link.mac).Bytes())
	}
	a := frame.Advertisement{Target: address, MAC: p.link.mac, Override: true}
	return p.sendNDP(frame.AllNodes(), frame.GroupMAC(frame.AllNodes()), p.link.source(), a.Bytes())
}

// probe asks whether anybody has an address.
func (p *port) probe(address netip.Addr) error {
	if address.Is4() {
		return send(p.arp, frame.Broadcast(), frame.ProbeARP(address, p.link.mac).Bytes())
	}
	group := frame.SolicitedNode(address)
	return p.sendNDP(group, frame.GroupMAC(group), netip.IPv6Unspecified(), frame.Solicitation{Target: address}.Bytes())
}

func (p *port) sendNDP(to netip.Addr, mac frame.MAC, source netip.Addr, message []byte) error {
	if !source.IsValid() {
		return fmt.Errorf("%s has no address of IPv6", p.link.name)
	}
	return send(p.ndp, mac, frame.Packet(source, to, message))
}

func send(conn *packet.Conn, to frame.MAC, b []byte) error {
	_, err := conn.WriteTo(b, &packet.Addr{HardwareAddr: to[:]})
	return err
}
