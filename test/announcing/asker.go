package announcing

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/signpost-dev/signpost/pkg/announce/frame"
	"github.com/signpost-dev/signpost/test/netlab"
)

// Asker is a host of a Segment that asks who has an address, by ARP and NDP, and
// notes who says so. Its methods may be called concurrently.
type Asker struct {
	mac      frame.MAC
	four     netip.Addr
	six      netip.Addr
	arp, ndp *packet.Conn
	heard    func(Answer)
	readers  sync.WaitGroup
}

// Answer is what somebody says of an address: that it is at this interface.
type Answer struct {
	At      time.Time
	Address netip.Addr
	MAC     frame.MAC
	// Asked: it answers a question, and is not an announcement to all.
	Asked bool
}

// NewAsker has heard be told of each answer, one after the other for each family,
// until Close.
func NewAsker(host *netlab.Namespace, heard func(Answer)) (*Asker, error) {
	a := &Asker{four: host.Addrs[0], six: host.Addrs[1], heard: heard}
	err := host.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		a.mac = frame.MAC(eth0.HardwareAddr)
		if a.arp, err = packet.Listen(eth0, packet.Datagram, unix.ETH_P_ARP, nil); err != nil {
			return err
		}
		a.ndp, err = packet.Listen(eth0, packet.Datagram, unix.ETH_P_IPV6, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking in %s: %w", host.Name, err)
	}
	a.readers.Go(func() { a.read(a.arp, a.takeARP) })
	a.readers.Go(func() { a.read(a.ndp, a.takeNDP) })
	return a, nil
}

// Close returns when heard is not told of anything any more.
func (a *Asker) Close() error {
	err := errors.Join(a.arp.Close(), a.ndp.Close())
	a.readers.Wait()
	return err
}

// Ask asks once who has an address.
func (a *Asker) Ask(address netip.Addr) error {
	if address.Is4() {
		question := frame.ARP{Operation: frame.Request, Sender: a.mac, SenderIP: a.four, TargetIP: address}
		return sendTo(a.arp, frame.Broadcast(), question.Bytes())
	}
	group := frame.SolicitedNode(address)
	question := frame.Solicitation{Target: address, Source: a.mac}
	return sendTo(a.ndp, frame.GroupMAC(group), frame.Packet(a.six, group, question.Bytes()))
}

// Claim says to everybody that this host has an address, as one does that was given it
// by hand.
func (a *Asker) Claim(address netip.Addr) error {
	if address.Is4() {
		return sendTo(a.arp, frame.Broadcast(), frame.AnnounceARP(address, a.mac).Bytes())
	}
	ad := frame.Advertisement{Target: address, MAC: a.mac, Override: true}
	return sendTo(a.ndp, frame.GroupMAC(frame.AllNodes()), frame.Packet(a.six, frame.AllNodes(), ad.Bytes()))
}

func sendTo(conn *packet.Conn, to frame.MAC, b []byte) error {
	_, err := conn.WriteTo(b, &packet.Addr{HardwareAddr: to[:]})
	return err
}

func (a *Asker) read(conn *packet.Conn, take func(time.Time, []byte)) {
	var b [2048]byte
	for {
		n, _, err := conn.ReadFrom(b[:])
		switch {
		case err == nil:
			take(time.Now(), b[:n])
		case errors.Is(err, unix.EBADF), errors.Is(err, os.ErrClosed): // closed
			return
		default:
			time.Sleep(time.Millisecond)
		}
	}
}

func (a *Asker) takeARP(at time.Time, b []byte) {
	p, err := frame.ParseARP(b)
	if err != nil || p.Sender == a.mac || p.Operation == frame.Request && p.SenderIP != p.TargetIP {
		return
	}
	a.heard(Answer{at, p.SenderIP, p.Sender, p.Operation == frame.Reply})
}

func (a *Asker) takeNDP(at time.Time, b []byte) {
	_, message, err := frame.ParsePacket(b)
	if err != nil {
		return
	}
	if _, ad, err := frame.ParseNDP(message); err == nil && ad != nil && ad.MAC != a.mac {
		a.heard(Answer{at, ad.Target, ad.MAC, ad.Solicited})
	}
}
