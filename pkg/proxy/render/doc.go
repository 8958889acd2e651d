// Package render turns the Services of a snapshot into the rules of a node: a
// model.ServiceMap goes in, a ruleset.Set per address family comes out. What
// the rules do to packets is what kube-proxy 1.36 does in its iptables mode.
//
// It is PURE: it reads no clock, socket, file or environment, runs nothing and
// never logs; what it has to know of the node comes in Config, what it cannot
// render comes back as Problems. So all of it can be tested by letting packets
// run through the rules in memory (see iptablestest).
//
// # Shape
//
// A packet that starts a connection goes, in table nat:
//
//	PREROUTING, OUTPUT
//	  └► SIGNPOST-SERVICES
//	       ├► SIGNPOST-10.96.0.0-16       -d 10.96.0.0/16     marks what comes from off the cluster
//	       │    └► SIGNPOST-10.96.16.0-20
//	       │         └► SIGNPOST-10.96.23.0-24
//	       │              └► SIGNPOST-SVC-<hash>              one per Service port: DNAT, one rule per endpoint
//	       └► SIGNPOST-NODEPORTS          -m addrtype --dst-type LOCAL, marks all
//	            └► SIGNPOST-NP-TCP-30016                      64 ports each
//	                 └► SIGNPOST-SVC-<hash>
//	POSTROUTING
//	  └► SIGNPOST-POSTROUTING             masquerades what is marked, and
//	       └► SIGNPOST-HAIRPIN            what an endpoint of this node sends to itself
//
// A tree over the address instead of a list over the Services makes the cost of
// a connection independent of the number of Services, and a change small: the
// chain of a Service port depends on its endpoints only, the chains above it on
// addresses and ports only. A change of endpoints writes exactly one chain per
// port. (An endpoint of this node that comes or goes also writes the hairpin list.)
//
// Off-cluster masquerade costs two rules per /16: the first rule marks
// packets whose source is no pod, the last one takes the mark off those that no
// Service took.
//
// In table filter a packet to a cluster IP is rejected if it gets there at all: had
// there been an endpoint, it would not have that destination any more. Where the
// range is known that cluster IPs come from, that is one rule; where it is not,
// it is one per Service port, in a tree of its own. Either way these rules do
// not depend on endpoints: there is no moment in which a Service has lost its
// endpoints in one table and has not yet got its reject in the other, and a
// packet that slipped past translation cannot leave the node and leave a useless
// connection entry behind. NodePorts are different, as a host may have a process
// on the same port: they are rejected only while they have no endpoint, like
// kube-proxy does; there is no gap for them because a packet to the node itself
// has nowhere to leak to.
package render
