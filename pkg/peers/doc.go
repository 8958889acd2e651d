// Package peers is how the daemons of the nodes talk to each other, without the
// API server: small datagrams between node addresses.
//
//	probe   ──► answer   is the node there, and what does it have programmed
//	ask     ──► opinion  what does the node hear of a third one
//	inquiry ──► finding  what does the node find of a backend of a Service
//
// Each daemon probes a few others once a second, its next ones on a ring of all
// nodes, and the leader probes all. So there are always some who can say of a
// node since when they have heard nothing of it. An answer is a sign of life, and
// so is a refusal: then it is only the daemon that is not there, and the node's
// kernel that says so. Silence is none; but it counts as silence only after a
// sign of life, so that a firewall that drops the port is never taken for death.
//
// Whoever reaches the port can ask. A reply is exactly as long as what it replies
// to, bears the number that this had, and tells nothing that is secret; nothing
// that comes unasked is believed.
//
// It must not import other shells, nor the API: who the nodes are is handed in,
// and what follows from silence is for those who ask to decide.
package peers
