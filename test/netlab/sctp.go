package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"time"
)

// SCTP is looked at packet by packet, as neither the standard library nor every
// kernel speaks it. Rules and connection tracking do not need that.

// sctpInit returns an INIT, the packet that asks for an association.
func sctpInit(from, to uint16) []byte {
	const header, chunk = 12, 20
	b := make([]byte, header+chunk)
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	// The verification tag of an INIT is 0.
	b[header] = 1 // INIT
	binary.BigEndian.PutUint16(b[header+2:], chunk)
	binary.BigEndian.PutUint32(b[header+4:], 0x5157) // initiate tag
	binary.BigEndian.PutUint32(b[header+8:], 65535)  // receiver window
	binary.BigEndian.PutUint16(b[header+12:], 1)     // streams out
	binary.BigEndian.PutUint16(b[header+14:], 1)     // streams in
	binary.BigEndian.PutUint32(b[header+16:], 1)     // first TSN
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func sctpNetwork(a netip.Addr) string {
	if a.Is4() {
		return "ip4:132"
	}
	return "ip6:132"
}

// SendSCTP asks for an association from a port of the namespace, by one packet.
func (n *Namespace) SendSCTP(fromPort uint16, to netip.AddrPort) error {
	return n.Do(func() error {
		c, err := net.Dial(sctpNetwork(to.Addr()), to.Addr().String())
		if err != nil {
			return fmt.Errorf("SCTP from %s to %s: %w", n.Name, to, err)
		}
		_, err = c.Write(sctpInit(fromPort, to.Port()))
		return errors.Join(err, c.Close())
	})
}

// SCTPWatch sees the SCTP packets that arrive at an address.
type SCTPWatch struct{ c net.PacketConn }

// WatchSCTP begins to watch. Call Close.
func (n *Namespace) WatchSCTP(at netip.Addr) (*SCTPWatch, error) {
	w := &SCTPWatch{}
	err := n.Do(func() error {
		var err error
		w.c, err = net.ListenPacket(sctpNetwork(at), at.String())
		return err
	})
	return w, err
}

// Close ends the watch.
func (w *SCTPWatch) Close() error { return w.c.Close() }

// Next waits for a packet that asks for an association, for at most patience, and returns its ports.
// It returns an error that wraps os.ErrDeadlineExceeded if there is none, and
// one for a packet whose checksum does not fit its content.
func (w *SCTPWatch) Next(patience time.Duration) (from, to uint16, err error) {
	if err := w.c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, 0, err
	}
	for {
		var b [1500]byte
		k, _, err := w.c.ReadFrom(b[:])
		if err != nil {
			return 0, 0, err
		}
		if k < 13 || b[12] != 1 {
			continue
		}
		sum := binary.LittleEndian.Uint32(b[8:])
		clear(b[8:12])
		if want := crc32.Checksum(b[:k], crc32.MakeTable(crc32.Castagnoli)); sum != want {
			return 0, 0, fmt.Errorf("SCTP checksum is %#x, want %#x", sum, want)
		}
		return binary.BigEndian.Uint16(b[0:]), binary.BigEndian.Uint16(b[2:]), nil
	}
}
