package pool

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

type pools = []*v1alpha1.LoadBalancerPool

func internal(p *v1alpha1.LoadBalancerPool) *v1alpha1.LoadBalancerPool {
	p.Spec.Scope = v1alpha1.ScopeInternal
	return p
}

func onlyAsked(p *v1alpha1.LoadBalancerPool) *v1alpha1.LoadBalancerPool {
	p.Spec.AutoAssign = new(false)
	return p
}

func forServices(p *v1alpha1.LoadBalancerPool, label string) *v1alpha1.LoadBalancerPool {
	p.Spec.ServiceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"for": label}}
	return p
}

func forNamespace(p *v1alpha1.LoadBalancerPool, name string) *v1alpha1.LoadBalancerPool {
	p.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": name}}
	return p
}

// TestWhatServicesGet has one row for each thing that a Service can ask for, and
// for each reason for which it gets nothing. Wherever something is wrong there is
// another Service, "good", which must not notice.
func TestWhatServicesGet(t *testing.T) {
	public := poolOf("public", 1, "192.0.2.10-192.0.2.12")
	tests := []struct {
		name     string
		pools    pools
		services []*corev1.Service
		want     map[string]string
	}{
		{
			"the lowest free address, older Services first", pools{public},
			[]*corev1.Service{service("b", 2), service("a", 3), service("c", 1)},
			map[string]string{"c": "192.0.2.10", "b": "192.0.2.11", "a": "192.0.2.12"},
		},
		{
			"who has one keeps it", pools{public},
			[]*corev1.Service{service("new", 1), service("old", 2, has("192.0.2.10"))},
			map[string]string{"new": "192.0.2.11", "old": "192.0.2.10"},
		},
		{
			"who asks comes before who takes any", pools{public},
			[]*corev1.Service{service("any", 1), service("asks", 2, asks("192.0.2.10"))},
			map[string]string{"any": "192.0.2.11", "asks": "192.0.2.10"},
		},
		{
			"no pool", nil,
			[]*corev1.Service{service("a", 1), service("b", 1, asks("192.0.2.1"))},
			map[string]string{"a": "NoPool: there is no LoadBalancerPool", "b": "NoPool: there is no LoadBalancerPool"},
		},
		{
			"exhausted", pools{poolOf("p", 1, "192.0.2.1"), poolOf("q", 1, "192.0.2.2")},
			[]*corev1.Service{service("a", 1), service("good", 2), service("c", 3)},
			map[string]string{"a": "192.0.2.1", "good": "192.0.2.2", "c": "PoolExhausted: no IPv4 address is free in LoadBalancerPools p, q"},
		},
		{
			"two ask for one", pools{public},
			[]*corev1.Service{service("good", 3), service("a", 1, asks("192.0.2.10")), service("b", 2, asks("192.0.2.10"))},
			map[string]string{
				"a": "192.0.2.10", "good": "192.0.2.11",
				"b": "AddressTaken: 192.0.2.10 is taken by Service default/a, not shared with it",
			},
		},
		{
			"asked for by the field", pools{public},
			[]*corev1.Service{service("a", 1, func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.12" })},
			map[string]string{"a": "192.0.2.12"},
		},
		{
			"an address outside every pool", pools{public},
			[]*corev1.Service{service("a", 1, asks("198.51.100.1")), service("good", 2)},
			map[string]string{"a": "AddressOutsidePools: 198.51.100.1 is in no LoadBalancerPool", "good": "192.0.2.10"},
		},
		{
			"what cannot be understood", pools{public},
			[]*corev1.Service{
				service("a", 1, asks("192.0.2.999")), service("b", 1, asks("192.0.2.10,192.0.2.11")), service("c", 1, asks("2001:db8::1")),
				service("d", 1, asks("192.0.2.10"), func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.11" }),
				service("e", 1, annotated(v1alpha1.AnnotationScope, "outside")), service("good", 2),
			},
			map[string]string{
				"a":    `InvalidRequest: annotation signpost.dev/addresses: "192.0.2.999" is not an address`,
				"b":    "InvalidRequest: annotation signpost.dev/addresses: 192.0.2.10 and 192.0.2.11 are of one family",
				"c":    "InvalidRequest: annotation signpost.dev/addresses: 2001:db8::1 is of family IPv6, which the Service has not",
				"d":    "InvalidRequest: annotation signpost.dev/addresses asks for 192.0.2.10, and spec.loadBalancerIP for 192.0.2.11",
				"e":    `InvalidRequest: annotation signpost.dev/load-balancer-scope: "outside" is neither internal nor public`,
				"good": "192.0.2.10",
			},
		},
		{
			"overlapping pools: the younger one gives nothing", pools{poolOf("young", 2, "192.0.2.12/31", "198.51.100.0/24"), public},
			[]*corev1.Service{service("good", 1), service("a", 2, asks("198.51.100.7")), service("b", 2, annotated(v1alpha1.AnnotationPool, "young"))},
			map[string]string{
				"good": "192.0.2.10",
				"a":    "PoolNotReady: LoadBalancerPool young is not ready: 192.0.2.12 is in LoadBalancerPool public as well, which is older",
				"b":    "PoolNotReady: LoadBalancerPool young is not ready: 192.0.2.12 is in LoadBalancerPool public as well, which is older",
			},
		},
		{
			"malformed ranges", pools{poolOf("bad", 1, "192.0.2.20-192.0.2.10", "192.0.2.1/24", "x", "127.0.0.1", "192.0.2.10")},
			[]*corev1.Service{service("a", 1)},
			map[string]string{"a": "PoolNotReady: LoadBalancerPool bad is not ready: " +
				`spec.addresses[0]: "192.0.2.20-192.0.2.10" ends before it begins; ` +
				`spec.addresses[1]: "192.0.2.1/24" is not a whole network: that would be 192.0.2.0/24; ` +
				`spec.addresses[2]: "x" is neither a CIDR, nor a range, nor an address; ` +
				`spec.addresses[3]: "127.0.0.1" has addresses of 127.0.0.0/8, which no Service can have`},
		},
		{
			"a malformed pool beside a good one", pools{poolOf("bad", 1, "x"), public},
			[]*corev1.Service{service("good", 1)},
			map[string]string{"good": "192.0.2.10"},
		},
		{
			"who selects comes first", pools{public, forServices(poolOf("for-x", 2, "198.51.100.1-198.51.100.2"), "x"), forNamespace(poolOf("for-other", 2, "203.0.113.1"), "other")},
			[]*corev1.Service{
				service("a", 1), service("x", 2, func(s *corev1.Service) { s.Labels = map[string]string{"for": "x"} }),
				service("b", 1, asks("198.51.100.2")), service("c", 1, asks("203.0.113.1")),
			},
			map[string]string{
				"a": "192.0.2.10", "x": "198.51.100.1",
				"b": "AddressNotAllowed: 198.51.100.2 is of LoadBalancerPool for-x, which selects other Services",
				"c": "AddressNotAllowed: 203.0.113.1 is of LoadBalancerPool for-other, which selects other namespaces",
			},
		},
		{
			"internal", pools{public, internal(poolOf("inside", 1, "10.9.0.1-10.9.0.9"))},
			[]*corev1.Service{
				service("ours", 1, annotated(v1alpha1.AnnotationScope, "internal")),
				service("gke", 2, annotated("networking.gke.io/load-balancer-type", "Internal")),
				service("aws", 3, annotated("service.beta.kubernetes.io/aws-load-balancer-internal", "true")),
				service("aws-lbc", 4, annotated("service.beta.kubernetes.io/aws-load-balancer-scheme", "internal")),
				service("azure", 5, annotated("service.beta.kubernetes.io/azure-load-balancer-internal", "true")),
				service("not-internal", 6, annotated("service.beta.kubernetes.io/azure-load-balancer-internal", "false")),
				service("ours-wins", 7, annotated(v1alpha1.AnnotationScope, "public"), annotated("networking.gke.io/load-balancer-type", "Internal")),
				service("asks-inside", 8, asks("10.9.0.9")),
			},
			map[string]string{
				"ours": "10.9.0.1", "gke": "10.9.0.2", "aws": "10.9.0.3", "aws-lbc": "10.9.0.4", "azure": "10.9.0.5",
				"not-internal": "192.0.2.10", "ours-wins": "192.0.2.11",
				"asks-inside": "AddressNotAllowed: 10.9.0.9 is of LoadBalancerPool inside, which is internal, and the Service does not ask for that",
			},
		},
		{
			"internal, and no such pool", pools{public},
			[]*corev1.Service{service("a", 1, annotated(v1alpha1.AnnotationScope, "internal"))},
			map[string]string{"a": "NoPool: no LoadBalancerPool is for it: public is public, and the Service asks for an internal load balancer"},
		},
		{
			"by the name of the pool", pools{public, onlyAsked(poolOf("kept", 2, "198.51.100.1"))},
			[]*corev1.Service{
				service("a", 1, annotated(v1alpha1.AnnotationPool, "kept, public")), service("b", 2, annotated(v1alpha1.AnnotationPool, "kept, public")),
				service("c", 3, annotated(v1alpha1.AnnotationPool, "nowhere")), service("d", 4),
			},
			map[string]string{
				"a": "198.51.100.1", "b": "192.0.2.10", "d": "192.0.2.11",
				"c": "NoPool: no LoadBalancerPool is for it: nowhere does not exist",
			},
		},
		{
			"only for who asks", pools{onlyAsked(poolOf("kept", 2, "198.51.100.1"))},
			[]*corev1.Service{service("a", 1)},
			map[string]string{"a": "NoPool: no LoadBalancerPool is for it: kept gives addresses only to who asks for them"},
		},
		{
			"classes", pools{public},
			[]*corev1.Service{
				service("ours", 1, class(v1alpha1.LoadBalancerClass)), service("other", 2, class("example.com/lb")),
				service("served", 3, class("example.com/lb"), has("192.0.2.11")), service("none", 4),
			},
			map[string]string{
				"ours": "192.0.2.10", "none": "192.0.2.12", "served": "not ours",
				"other": "UnknownClass: its loadBalancerClass is example.com/lb, and Signpost's is signpost.dev/l2",
			},
		},
		{
			"without a class, and served by somebody else", pools{public},
			[]*corev1.Service{
				service("ours", 4), service("elsewhere", 1, served("198.51.100.1")), service("here", 2, served("192.0.2.10")),
				service("by-name", 3, func(s *corev1.Service) {
					s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}}
				}),
				service("asks", 5, asks("192.0.2.10")),
			},
			map[string]string{
				"ours": "192.0.2.11", "elsewhere": "not ours", "here": "not ours", "by-name": "not ours",
				"asks": "AddressTaken: 192.0.2.10 is taken by Service default/here, not shared with it",
			},
		},
		{
			"both families", pools{poolOf("four", 1, "192.0.2.1"), poolOf("both", 2, "198.51.100.1-198.51.100.2", "2001:db8::/126")},
			[]*corev1.Service{
				service("a", 1, dual(corev1.IPFamilyPolicyRequireDualStack)), service("b", 2, dual(corev1.IPFamilyPolicyPreferDualStack)),
				service("c", 3, dual(corev1.IPFamilyPolicyRequireDualStack), asks("2001:db8::3")), service("d", 4, dual(corev1.IPFamilyPolicyRequireDualStack)),
			},
			map[string]string{
				"c": "192.0.2.1 2001:db8::3", "a": "198.51.100.1 2001:db8::1", "b": "198.51.100.2 2001:db8::2",
				"d": "PoolExhausted: no IPv4 address is free in LoadBalancerPools four, both",
			},
		},
		{
			"one family is better than none, if that is enough", pools{public},
			[]*corev1.Service{service("a", 1, dual(corev1.IPFamilyPolicyPreferDualStack)), service("b", 2, dual(corev1.IPFamilyPolicyRequireDualStack))},
			map[string]string{"a": "192.0.2.10", "b": "NoPool: no LoadBalancerPool is for it: public has no IPv6 addresses"},
		},
		{
			"shared", pools{public},
			[]*corev1.Service{
				service("a", 1, shares("k"), asks("192.0.2.11")), service("b", 2, shares("k"), onPort(81)), service("c", 3, shares("k")),
				service("d", 4, shares("k"), onPort(82), local("x"), asks("192.0.2.11")),
				service("e", 5, shares("k"), onPort(80), asks("192.0.2.11")),
				service("f", 6, shares("other"), onPort(83), asks("192.0.2.11")),
			},
			map[string]string{
				"a": "192.0.2.11", "b": "192.0.2.11", "c": "192.0.2.10",
				"d": "AddressTaken: 192.0.2.11 is taken by Service default/a, which sends to pods of other nodes: share with externalTrafficPolicy Cluster, or with Local and the same selector",
				"e": "AddressTaken: 192.0.2.11 is taken by Service default/a, which has port 80/TCP as well",
				"f": "AddressTaken: 192.0.2.11 is taken by Service default/a, not shared with it",
			},
		},
		{
			"shared, with packets only to pods of the node", pools{public},
			[]*corev1.Service{
				service("a", 1, shares("k"), local("x")), service("b", 2, shares("k"), onPort(81), local("x")),
				service("c", 3, shares("k"), onPort(82), local("y")),
			},
			map[string]string{"a": "192.0.2.10", "b": "192.0.2.10", "c": "192.0.2.11"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := settled(tt.pools, tt.services...)
			got := map[string]string{}
			for name := range tt.want {
				got[name] = line(t, a, name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
