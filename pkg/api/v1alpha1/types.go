package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LoadBalancerPool is a set of addresses that Services of type LoadBalancer get
// theirs from, and who may get one. Pools belong to no namespace.
//
// A pool decides about what is given out, and never takes back: an address that a
// Service has stays with it when the pool shrinks, changes its selectors or is
// deleted, until the Service itself gives it up.
type LoadBalancerPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitzero"`

	Spec   LoadBalancerPoolSpec   `json:"spec"`
	Status LoadBalancerPoolStatus `json:"status,omitzero"`
}

// LoadBalancerPoolList is a list of pools.
type LoadBalancerPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`

	Items []LoadBalancerPool `json:"items"`
}

// Scope says from where the addresses of a pool can be reached.
type Scope string

// The scopes.
const (
	ScopePublic   Scope = "Public"
	ScopeInternal Scope = "Internal"
)

// LoadBalancerPoolSpec is what somebody wants of a pool.
type LoadBalancerPoolSpec struct {
	// Addresses are CIDRs, ranges such as 192.0.2.10-192.0.2.20, and single
	// addresses, of both families; see ParseRange. At least one.
	Addresses []string `json:"addresses"`
	// Scope Internal is for Services that ask for an internal load balancer, and for
	// those only. Default: Public. It cannot be changed.
	Scope Scope `json:"scope,omitempty"`
	// AutoAssign false keeps the addresses for Services that ask for one of them, or
	// for the pool by its name. Default: true.
	AutoAssign *bool `json:"autoAssign,omitempty"`
	// ServiceSelector and NamespaceSelector say which Services may get an address,
	// by the labels of the Service and of its namespace. Default: all. A pool that
	// has one of them is tried before those that have none.
	ServiceSelector   *metav1.LabelSelector `json:"serviceSelector,omitempty"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// NodeSelector says which nodes may announce the addresses. Default: all.
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// Interfaces are the names of the network interfaces at which nodes may announce
	// them. Default: all.
	Interfaces []string `json:"interfaces,omitempty"`
}

// AutoAssigns says whether Services get an address that did not ask for this pool.
func (s *LoadBalancerPoolSpec) AutoAssigns() bool { return s.AutoAssign == nil || *s.AutoAssign }

// EffectiveScope is Scope with its default.
func (s *LoadBalancerPoolSpec) EffectiveScope() Scope {
	if s.Scope == "" {
		return ScopePublic
	}
	return s.Scope
}

// LoadBalancerPoolStatus is what Signpost says of a pool. It may be seconds old.
type LoadBalancerPoolStatus struct {
	// Conditions has one of type Ready. A pool that is not ready gives out nothing;
	// what it has given out stays.
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// IPv4 and IPv6 count the addresses of one family; nil if the pool has none.
	IPv4 *AddressCount `json:"ipv4,omitempty"`
	IPv6 *AddressCount `json:"ipv6,omitempty"`
}

// AddressCount counts the addresses of a pool in one family.
type AddressCount struct {
	// Used is how many addresses of the pool Services have. One that is shared counts
	// once.
	Used int64 `json:"used"`
	// Free is how many the pool can still give out. It is a decimal number of any
	// size: those of an IPv6 range fit no integer.
	Free string `json:"free"`
}

// Precedes says which of two pools comes first where only one can be: the older
// one, and of two that are as old the one whose name is lower.
func (p *LoadBalancerPool) Precedes(other *LoadBalancerPool) bool {
	if mine, others := &p.CreationTimestamp, &other.CreationTimestamp; !mine.Equal(others) {
		return mine.Before(others)
	}
	return p.Name < other.Name
}
