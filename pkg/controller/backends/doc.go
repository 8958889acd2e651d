// Package backends publishes, on the leader, which external backends of a Service
// work: those of a Service without selector, that somebody has written into its
// Endpoints or EndpointSlices, or that are given by name.
//
//	informers ──► Service, slices of others  ┐
//	resolver  ──► addresses of names         ┼─► plan ──► writes of slices of ours
//	three nodes ──► findings ──► verdict ────┘  (pure)
//
// It asks three nodes, chosen by rendezvous hashing, what they find of each
// backend; the majority decides. The nodes check as long as they are asked, see the
// room prober. A Controller lives for one term of the leader and leaves no handler
// behind: what it knows it finds again in its slices, and by asking.
//
// It must not import the other wings (proxy, dns), nor peers, which carries the
// questions, nor the shell of another controller.
package backends
