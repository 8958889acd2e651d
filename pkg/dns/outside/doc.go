// Package outside answers for the names that the world outside of the cluster has
// for its load balancers: SERVICE.NAMESPACE.ZONE, in a zone that somebody delegates
// to the nodes.
//
//	web.shop.lb.example.org             A, AAAA   the load balancer's addresses
//	_http._tcp.web.shop.lb.example.org  SRV       its port
//	shop.lb.example.org                           no data: there are names below
//	lb.example.org                      SOA, NS
//
// A Service has a name here if it has such an address; of all others nothing is
// said, not even that they exist. As in CoreDNS's k8s_external.
//
// The package is pure: a Snapshot and a question in, an answer out. It must never
// import the API, a shell, or read a clock.
package outside
