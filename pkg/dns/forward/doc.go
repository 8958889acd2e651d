// Package forward resolves the names that are not the cluster's, by asking the
// resolvers that the node has been given.
//
// It is a stub resolver and believes its upstreams, but nobody else: each
// question goes out with a random ID, in random capitals, from a socket of its own
// that is bound to a random port and connected to the upstream. What comes back
// and is not the answer is ignored, and after a few of those, or if it came in
// fragments, the question is asked over TCP. Of an answer only what belongs to the
// question is kept. Equal questions that are asked at the same time are sent once.
//
//	CachedWire ──► cache ── fresh, or expired and nobody can be asked ──► answer
//	Resolve ─────►   │
//	              flight, one for equal questions ──► hunt ──► attempt, attempt, … ──► sift ──► cache
//	                                                   │ the next upstream when the first is slower than mostly
//	                                                   ▼
//	                                    upstreams: alive as far as they answer real questions
//
// How long answers live:
//
//   - what exists: as its TTLs say, one hour at most. TTL 0 is not kept.
//   - what does not: as the SOA record says (RFC 2308), 30 s at most; without one
//     it is not kept. kubeadm's Corefile has 30 s, too, and who waits for a name to
//     appear should not wait longer.
//   - that nobody has an answer: 5 s, silence included (RFC 9520).
//   - what is asked for often is renewed in the last tenth of its life.
//   - what has expired is served with a TTL of 30 s, for a day at most, if nobody
//     has a newer answer within 1.8 s (RFC 8767).
//
// It is a shell: it owns sockets, a cache and a clock. Nothing in it knows of
// Services; it must never import a shell of another wing, nor package dns, which
// imports it.
package forward
