// Package loadbalancer gives Services of type LoadBalancer their addresses, from
// the LoadBalancerPools of the cluster, for one term of leadership.
//
// Which Service gets which address is decided in pool; here is what it takes to
// decide on the newest state there is and to write that down. Nothing else is
// stored: the addresses in the status of the Services are all that the next leader
// has to know. A Service without an address always has the reason in its condition
// v1alpha1.ConditionAddressAssigned, and in an Event.
//
// Without the kind LoadBalancerPool in the cluster all goes on, and it is looked
// again every few seconds whether there is one by now.
//
// The package must not import another wing (proxy, dns), nor a controller beside
// it: nodes learn of the addresses as of all else, by the Services.
package loadbalancer
