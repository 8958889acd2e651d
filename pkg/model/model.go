package model

import (
	"net/netip"
	"strings"
	"time"
)

// Name identifies a namespaced object.
type Name struct{ Namespace, Name string }

// String returns "namespace/name", or "name" for an object without namespace.
func (n Name) String() string {
	if n.Namespace == "" {
		return n.Name
	}
	return n.Namespace + "/" + n.Name
}

// Compare orders names by namespace, then by name.
func (n Name) Compare(o Name) int {
	if c := strings.Compare(n.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(n.Name, o.Name)
}

// Protocol is a transport protocol in the API's spelling.
type Protocol string

// The protocols that a Service port can have.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// ServicePortName identifies one port of one Service. Port is empty for the
// only port of a Service that did not name it.
type ServicePortName struct {
	Name
	Port     string
	Protocol Protocol
}

// String returns "namespace/name:port", as kube-proxy writes it.
func (n ServicePortName) String() string {
	if n.Port == "" {
		return n.Name.String()
	}
	return n.Name.String() + ":" + n.Port
}

// Snapshot is all that this node knows of the cluster's Services at one moment.
// Immutable, see the package comment.
type Snapshot struct {
	// Generation grows by one with each Snapshot of a process, from 1.
	Generation uint64
	Services   ServiceMap
	// Namespaces holds the names of all namespaces that exist: names below an
	// existing namespace are answered differently from those below none.
	Namespaces map[string]struct{}
	Node       Node
	// Pods are the addresses of this node's own pods, if names of pods are to be
	// verified; else nobody watches them.
	Pods map[PodAddress]struct{}
	// ServiceCIDRs are the ranges that cluster IPs come from, sorted: an address
	// in one of them that no Service has is nobody's (KEP-1880). Empty for a
	// server that does not say.
	ServiceCIDRs []netip.Prefix
}

// Node is what a node has to know of itself.
type Node struct {
	Name string
	// Addrs are the node's internal and external addresses, in the API's order.
	Addrs []netip.Addr
	// PodCIDRs are the ranges that this node's pods get their addresses from.
	// Empty where the cluster does not allocate them.
	PodCIDRs []netip.Prefix
	Zone     string
	Labels   map[string]string
	// Leaving is true for a node that is being deleted, or that cluster-autoscaler
	// is about to remove: load balancers should not send to it (KEP-3836).
	Leaving bool
}

// Service is one Service together with the endpoints that stand behind it.
// Immutable once it is part of a Snapshot.
type Service struct {
	Name
	UID string
	// ClusterIPs has none for a headless Service and for one that only has an
	// ExternalName, else one address per family.
	ClusterIPs   []netip.Addr
	Headless     bool
	ExternalName string
	// OtherProxy is true for a Service that asks by the label
	// service.kubernetes.io/service-proxy-name to be programmed by another
	// proxy. It still has names.
	OtherProxy bool
	Ports      []ServicePort
	// ExternalIPs and LoadBalancerIPs are addresses that packets arrive with from
	// outside, each once. A load balancer that ends connections itself has none
	// here (KEP-1860).
	ExternalIPs, LoadBalancerIPs []netip.Addr
	// Announced says that the LoadBalancerIPs are from Signpost, so that it is for the
	// nodes to answer for them.
	Announced bool
	// SourceRanges say who may use the LoadBalancerIPs, sorted, each once. If there
	// is none of a family, everybody may.
	SourceRanges []netip.Prefix
	// AffinityTimeout is how long, 1 s to 1 day, a client keeps its endpoint after
	// its last connection; 0 for a Service to which all connections are alike.
	AffinityTimeout time.Duration
	// InternalLocal and ExternalLocal are the traffic policies: only endpoints of the node
	// that a packet arrives at get what goes to the ClusterIPs, or to all others.
	InternalLocal, ExternalLocal bool
	// HealthCheckNodePort is where load balancers ask whether this node has
	// endpoints; 0 for none.
	HealthCheckNodePort uint16
	// Groups are the endpoints, grouped as the EndpointSlices have them.
	Groups []EndpointGroup
	// Problems says what of the Service could not be used, and why. The rest of
	// the Service stands.
	Problems []Problem
}

// ServicePort is one port that a Service offers.
type ServicePort struct {
	Name     string
	Protocol Protocol
	Port     uint16
	// NodePort is 0 for a port that has none.
	NodePort uint16
}

// EndpointGroup is a set of endpoints of one address family that offer the same
// ports.
type EndpointGroup struct {
	Ports     []EndpointPort
	Endpoints []Endpoint
	// Triggered is when what led to the last change of the group happened, such
	// as a pod becoming ready; zero if nobody says so.
	Triggered time.Time
}

// EndpointPort is a port that endpoints listen on; by Name and Protocol it
// belongs to a ServicePort.
type EndpointPort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// Endpoint is one address behind a Service.
type Endpoint struct {
	Addr netip.Addr
	// Ready: gets new connections. Serving and Terminating are the conditions
	// of KEP-1672; an endpoint that is Serving and Terminating is used only when
	// there is none that is Ready.
	Ready, Serving, Terminating bool
	// Hostname is the endpoint's name below the Service's, or empty.
	Hostname string
	Node     string
	Zone     string
	// Hints say for whom the endpoint is meant; nil for all.
	Hints *Hints
}

// Hints are the nodes and zones that an endpoint is meant for (KEP-2433,
// KEP-3015).
type Hints struct{ Nodes, Zones []string }

// Problem says what is wrong with an object, so that its owner can mend it.
type Problem struct {
	// Field is the path of the offending field, such as "spec.ports[1].port".
	Field   string
	Message string
}

// String returns "field: message".
func (p Problem) String() string { return p.Field + ": " + p.Message }
