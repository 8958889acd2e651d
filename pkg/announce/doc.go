// Package announce answers for load balancer addresses on the links of this node,
// as far as no other node does.
//
//	wishes ──► claim: who has it ◄──► datagrams between the nodes
//	             │ this node has
//	             ▼
//	questions ──► answers (ARP, NDP), and announcements when it begins
//
// Which node that is decides claim, by the votes of a majority of the nodes; this
// package carries its messages, asks it at the time of each answer whether the node
// still has the address, and watches the links: a node that has no link for an
// address does not claim it. Before it claims one for the first time it asks on the
// link whether a stranger has it (RFC 5227, RFC 4862), and leaves it to that one.
//
// Addresses are put on no interface: what arrives for them the node's rules
// translate. While there is nothing to announce in the whole cluster, it has no
// socket and says nothing.
//
// Messages are believed if they come from the address of the node that they claim
// to be of; who can send with such an address can keep addresses from being
// announced.
//
// It must not import other shells, nor the API: which nodes there are, and what
// this one may announce, is handed in.
package announce
