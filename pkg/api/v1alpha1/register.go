package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The names by which the API server knows the kinds.
const (
	Group                     = "signpost.dev"
	Version                   = "v1alpha1"
	LoadBalancerPoolKind      = "LoadBalancerPool"
	LoadBalancerPoolsResource = "loadbalancerpools"
)

// GroupVersion returns the group and version of all kinds of this package.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: Version}
}

// AddToScheme makes the kinds of this package known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion(), &LoadBalancerPool{}, &LoadBalancerPoolList{})
	metav1.AddToGroupVersion(s, GroupVersion())
	return nil
}
