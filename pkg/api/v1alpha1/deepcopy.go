package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeepCopyObject implements runtime.Object.
func (p *LoadBalancerPool) DeepCopyObject() runtime.Object { return p.DeepCopy() }

// DeepCopy returns a copy that shares nothing with p.
func (p *LoadBalancerPool) DeepCopy() *LoadBalancerPool {
	if p == nil {
		return nil
	}
	out := &LoadBalancerPool{}
	p.DeepCopyInto(out)
	return out
}

// DeepCopyInto makes out a copy of p that shares nothing with it.
func (p *LoadBalancerPool) DeepCopyInto(out *LoadBalancerPool) {
	*out = *p
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec = p.Spec.copy()
	out.Status = p.Status.copy()
}

func (s *LoadBalancerPoolSpec) copy() LoadBalancerPoolSpec {
	out := *s
	out.Addresses = slices.Clone(s.Addresses)
	out.Interfaces = slices.Clone(s.Interfaces)
	out.AutoAssign = clone(s.AutoAssign)
	out.ServiceSelector = s.ServiceSelector.DeepCopy()
	out.NamespaceSelector = s.NamespaceSelector.DeepCopy()
	out.NodeSelector = s.NodeSelector.DeepCopy()
	return out
}

func (s *LoadBalancerPoolStatus) copy() LoadBalancerPoolStatus {
	out := LoadBalancerPoolStatus{IPv4: clone(s.IPv4), IPv6: clone(s.IPv6)}
	if s.Conditions != nil {
		out.Conditions = make([]metav1.Condition, len(s.Conditions))
		for i := range s.Conditions {
			s.Conditions[i].DeepCopyInto(&out.Conditions[i])
		}
	}
	return out
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// DeepCopyObject implements runtime.Object.
func (l *LoadBalancerPoolList) DeepCopyObject() runtime.Object {
	if l == nil {
		return nil
	}
	out := &LoadBalancerPoolList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	if l.Items != nil {
		out.Items = make([]LoadBalancerPool, len(l.Items))
		for i := range l.Items {
			l.Items[i].DeepCopyInto(&out.Items[i])
		}
	}
	return out
}
