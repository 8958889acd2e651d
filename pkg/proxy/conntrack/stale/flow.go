package stale

import (
	"net/netip"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Protocol is a transport protocol by its IANA number; 0 is none of those here.
type Protocol uint8

// The protocols of Services.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

func protocolOf(p model.Protocol) Protocol {
	switch p {
	case model.TCP:
		return TCP
	case model.UDP:
		return UDP
	case model.SCTP:
		return SCTP
	}
	return 0
}

// Flow is a connection as the kernel tracks it.
type Flow struct {
	Protocol Protocol
	// To is where the client sent it.
	To netip.AddrPort
	// Server is where it went: To, unless it was translated.
	Server netip.AddrPort
	// Answered: the server has sent something.
	Answered bool
	// HalfOpen: the handshake of TCP or SCTP is not complete.
	HalfOpen bool
}

// FrontEnd is where a Service is reached.
type FrontEnd struct {
	// Addr is not valid for a NodePort, which is reached at the node's own addresses.
	Addr     netip.Addr
	Port     uint16
	Protocol Protocol
}

// Kind is a kind of flows that are looked for at the same time.
type Kind int

// The kinds.
const (
	// Datagrams are the flows of UDP.
	Datagrams Kind = iota
	// Handshakes are the half-open connections of TCP and SCTP.
	Handshakes
	kinds
)

// Kinds returns all of them.
func Kinds() []Kind { return []Kind{Datagrams, Handshakes} }

func kindOf(p Protocol) Kind {
	if p == UDP {
		return Datagrams
	}
	return Handshakes
}

// Filter is what all flows that a Look is for have in common, so that the kernel
// can leave out others. The zero value of a field is for anything. Where the kernel
// filters nothing, Look.Stale comes to the same.
type Filter struct {
	Protocol Protocol
	// To and ToPort are where the client sent it.
	To     netip.Addr
	ToPort uint16
	// Server is where it went.
	Server netip.AddrPort
	// Translated: only what has another Server than To.
	Translated bool
	// Unanswered: only what has not been answered.
	Unanswered bool
	// Unassured: only what the kernel drops first when its table is full, of which
	// is every handshake.
	Unassured bool
}
