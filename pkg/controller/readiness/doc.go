// Package readiness tells people why a Service does not work: the Teller turns
// what verdict says of a Service without usable endpoints into an Event on it and
// into its condition signpost.dev/EndpointsReady.
//
// A condition is a write to an object that every node watches, so a Service that
// works gets none: it is written when a Service has been without endpoints for a
// while, and again when it has some.
//
// The Gate opens the readiness gate signpost.dev/programmed: a pod that lists it
// is ready only when the nodes send to it. Nobody else could open such a gate, as
// endpoints are published once a pod is ready. Here a pod that lacks nothing but
// this gate is published as if it were ready; each node says up to which resource
// version of EndpointSlices it does what they say, one number whatever it has of
// Services; and when enough of these numbers are past the slices that have the
// pod, its condition is set. So a roll-out takes no old pod away before the new
// one is reachable. What was decided about it:
//
//   - Enough is a share or a number of the nodes that run Signpost and are alive.
//     A node that hangs is waited for until a timeout, and named then; a roll-out is
//     never stopped for good. The nodes are asked only while somebody waits.
//   - A pod waits for all Services that select it when it is first published, in all
//     their families. One that no Service has a place for has nothing to wait for.
//     Services that come later are not waited for: that would make ready pods unready.
//   - The gate shuts again when a container or another gate takes the pod out, for
//     then its endpoint leaves the nodes and has to come back to them. The pod is
//     unready at that time anyway, so it loses nothing. A pod that only the node
//     controller calls unready keeps its gate, as it keeps being sent to; so does
//     one that terminates.
//   - The node of a pod that waits may die. The pod waits on, without a timeout: its
//     kubelet would find the gate open when it is back, and the pod nowhere.
//   - What a leader knows of this is lost with it. The next one sees the same pods
//     and slices and asks the same nodes; only the timeout begins anew.
//   - A Service whose rules a node's kernel refuses does not hold that node's number
//     back, or one broken Service would stop the roll-outs of all others. So its pods
//     are let in though that node goes on by its former rules; an Event on the Service
//     says so. Nor does a node know from a slice that its Service is still to come
//     by another watch, which is a matter of milliseconds after it was made.
//
// The package must not import the controllers that know the pods, in
// pkg/controller/endpoints: they hand in what they know, and pkg/daemon joins
// them. Nor must it import another wing (proxy, dns).
package readiness
