// Package claim decides which one of several nodes has an address, without a
// store that all of them reach.
//
// Each node asks all others, several times a second, to grant it the addresses
// that it claims. A node grants an address to one other at a time, for Term from
// when the question arrives. Who has been granted an address by a majority of all
// nodes has it, but only for Seat from when that question was sent. Two majorities
// have a node in common, and Seat is shorter than Term: so at no time do two nodes
// have an address, whatever is lost, delayed or cut off, and whatever each of them
// believes of the others. A node that is cut off from the majority finds that out
// by its own clock, before anybody else can be granted what it had.
//
// Who is to claim what is only a matter of preference: of the nodes that may have
// an address and give signs of life, the first by rendezvous hashing does, and the
// next ones each a little later if that one does not. Who has an address keeps it,
// though a node comes that would be preferred.
//
// What this rests on: clocks of nodes run at the same speed within a quarter;
// nodes agree about who all nodes are, but for one that is coming or going; a node
// that begins anew grants nothing for Term, as it does not know what it has
// granted. With two nodes both are the majority: then there is no failing over.
//
// The package is pure: the time is handed in, and messages are values that others
// carry.
package claim
