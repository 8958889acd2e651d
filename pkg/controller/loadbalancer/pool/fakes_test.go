package pool

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// at is a time of creation.
func at(seconds int) metav1.Time { return metav1.NewTime(time.Unix(int64(seconds), 0)) }

// poolOf returns a pool of these addresses.
func poolOf(name string, age int, addresses ...string) *v1alpha1.LoadBalancerPool {
	return &v1alpha1.LoadBalancerPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: at(age)},
		Spec:       v1alpha1.LoadBalancerPoolSpec{Addresses: addresses},
	}
}

// option changes a Service.
type option func(*corev1.Service)

// service returns one of type LoadBalancer and port 80.
func service(name string, age int, options ...option) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), CreationTimestamp: at(age), Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}, Selector: map[string]string{"app": name},
		},
	}
	for _, o := range options {
		o(svc)
	}
	return svc
}

func annotated(name, value string) option {
	return func(svc *corev1.Service) { svc.Annotations[name] = value }
}

func asks(addresses string) option { return annotated(v1alpha1.AnnotationAddresses, addresses) }

func onPort(n int32) option { return func(svc *corev1.Service) { svc.Spec.Ports[0].Port = n } }

func shares(key string) option { return annotated(v1alpha1.AnnotationShareAddress, key) }

func local(app string) option {
	return func(svc *corev1.Service) {
		svc.Spec.ExternalTrafficPolicy, svc.Spec.Selector = corev1.ServiceExternalTrafficPolicyLocal, map[string]string{"app": app}
	}
}

func dual(policy corev1.IPFamilyPolicy) option {
	return func(svc *corev1.Service) {
		svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, &policy
	}
}

// has gives a Service what a Signpost before has given it.
func has(addresses ...string) option {
	return func(svc *corev1.Service) {
		served(addresses...)(svc)
		if len(addresses) > 0 {
			svc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAddressAssigned, Status: metav1.ConditionTrue}}
		}
	}
}

// served gives it what somebody else does.
func served(addresses ...string) option {
	return func(svc *corev1.Service) {
		svc.Status = corev1.ServiceStatus{}
		for _, a := range addresses {
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
	}
}

func class(name string) option {
	return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &name }
}

// settled returns an Allocator that was told all of this and has settled.
func settled(pools []*v1alpha1.LoadBalancerPool, services ...*corev1.Service) *Allocator {
	a := New(true)
	a.SetNamespace("default", map[string]string{"kubernetes.io/metadata.name": "default"})
	a.SetPools(pools, true)
	for _, svc := range services {
		a.SetService(svc)
	}
	a.Settle()
	return a
}

// line writes the verdict about a Service of namespace default in one line.
func line(t *testing.T, a *Allocator, name string) string {
	t.Helper()
	v, ok := a.Verdict(Key{Namespace: "default", Name: name})
	if !ok {
		t.Fatalf("no verdict about %s", name)
	}
	var words []string
	for _, x := range v.Addresses {
		words = append(words, x.String())
	}
	if !v.Ours && v.Reason == "" {
		return "not ours"
	}
	if !v.Satisfied || v.Reason != v1alpha1.ReasonAssigned {
		words = append(words, v.Reason+": "+v.Message)
	}
	return strings.Join(words, " ")
}
