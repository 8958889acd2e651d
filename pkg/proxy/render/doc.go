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
//	       │    └► SIGNPOST-10.96.16.0-20                     … and so on by four bits of the address each
//	       │         ├► DNAT                                  a Service with one front end and few endpoints
//	       │         └► SIGNPOST-SVC-<hash>                   any other: DNAT, one rule per endpoint
//	       │              └► SIGNPOST-GRP-<hash>              from 64 endpoints on by groups of about their root
//	       ├► SIGNPOST-EXT-203.0.113.0-28                     external and load balancer IPs, marks all
//	       │    ├► SIGNPOST-FW-<hash>                         source ranges
//	       │    └► SIGNPOST-EXT-<hash>                        policy Local: SVL for those from outside, SVC for pods
//	       └► SIGNPOST-NODEPORTS          -m addrtype --dst-type LOCAL, marks all
//	            └► SIGNPOST-NP-TCP-30016-30031
//	POSTROUTING
//	  └► SIGNPOST-POSTROUTING             masquerades what is marked, and
//	       └► SIGNPOST-HAIRPIN            what an endpoint of this node sends to itself
//
// A tree over the address instead of a list over the Services makes the cost of
// a connection independent of the number of Services, and a change small: a
// change of endpoints writes the leaf or the chain where they are, of at most
// 64 rules, or as many as the Service has endpoints up to that number. (An
// endpoint of this node that comes or goes also writes the hairpin list.)
// A leaf holds the endpoints themselves where it can, as each
// chain has its price with the nft program; TestRuleBudget pins what a Service
// costs, and TestLargeClusterBudget whole clusters.
//
// Off-cluster masquerade costs two rules per Service range: the first marks
// packets whose source is no pod, the last one takes the mark off those that no
// Service took.
//
// A client that has to keep its endpoint is remembered in an IP set per endpoint
// where the kernel has those, as the lists of xt_recent forget beyond a hundred
// clients; without either the Service has no affinity, which is said at start.
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
