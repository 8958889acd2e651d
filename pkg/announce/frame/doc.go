// Package frame writes and reads what nodes say on a link about who has an
// address: ARP (RFC 826, 5227) for IPv4, and the two messages of neighbour
// discovery (RFC 4861) that are about that for IPv6.
//
// It is bytes in and values out, and the other way round: it must not open a
// socket, nor decide what is answered. What comes from a link is anybody's, so
// everything that is not exactly as it should be is an error.
package frame
