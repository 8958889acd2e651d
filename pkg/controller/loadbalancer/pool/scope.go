package pool

import (
	"fmt"
	"strings"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// clouds are the annotations by which the load balancers of clouds are told to be
// internal, with the value that means it; "" stands for any that is not empty.
// They are those of the Kubernetes documentation of Services.
func clouds() map[string][]string {
	return map[string][]string{
		"networking.gke.io/load-balancer-type":                               {"internal"},
		"cloud.google.com/load-balancer-type":                                {"internal"},
		"service.beta.kubernetes.io/aws-load-balancer-internal":              {"true", "0.0.0.0/0"},
		"service.beta.kubernetes.io/aws-load-balancer-scheme":                {"internal"},
		"service.beta.kubernetes.io/azure-load-balancer-internal":            {"true"},
		"service.kubernetes.io/ibm-load-balancer-cloud-provider-ip-type":     {"private"},
		"service.beta.kubernetes.io/openstack-internal-load-balancer":        {"true"},
		"service.beta.kubernetes.io/cce-load-balancer-internal-vpc":          {"true"},
		"service.kubernetes.io/qcloud-loadbalancer-internal-subnetid":        {""},
		"service.beta.kubernetes.io/alibaba-cloud-loadbalancer-address-type": {"intranet"},
		"service.beta.kubernetes.io/oci-load-balancer-internal":              {"true"},
	}
}

// scopeOf says from where the load balancer that the annotations ask for is to be
// reached. An error is about our own annotation: those of clouds are not ours to
// judge.
func scopeOf(annotations map[string]string) (v1alpha1.Scope, error) {
	switch v := annotations[v1alpha1.AnnotationScope]; strings.ToLower(v) {
	case v1alpha1.AnnotationScopeInternal:
		return v1alpha1.ScopeInternal, nil
	case v1alpha1.AnnotationScopePublic:
		return v1alpha1.ScopePublic, nil
	case "":
	default:
		return v1alpha1.ScopePublic, fmt.Errorf("annotation %s: %q is neither %s nor %s",
			v1alpha1.AnnotationScope, v, v1alpha1.AnnotationScopeInternal, v1alpha1.AnnotationScopePublic)
	}
	for name, meanings := range clouds() {
		value := strings.ToLower(strings.TrimSpace(annotations[name]))
		for _, m := range meanings {
			if value != "" && (m == "" || m == value) {
				return v1alpha1.ScopeInternal, nil
			}
		}
	}
	return v1alpha1.ScopePublic, nil
}
