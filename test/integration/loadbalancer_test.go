//go:build integration

package integration

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/test/config"
)

// kinds returns a client for CustomResourceDefinitions and LoadBalancerPools.
func (n *node) kinds() client.Client {
	n.t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			n.t.Fatal(err)
		}
	}
	c, err := client.New(n.server.Config(), client.Options{Scheme: scheme})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// TestLoadBalancerFromPoolToPacket: a Service is pending and says why, a pool
// comes, and packets to its address arrive. The daemon has started before there
// was the kind.
func TestLoadBalancerFromPoolToPacket(t *testing.T) {
	n := startedNode(t, "client", "web-1")
	n.makePod("web-1")
	n.makeService("default", "web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	state := func() (address, why string) {
		svc, err := n.api.CoreV1().Services("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range svc.Status.LoadBalancer.Ingress {
			address = in.IP
		}
		for _, c := range svc.Status.Conditions {
			if c.Type == v1alpha1.ConditionAddressAssigned {
				why = c.Reason
			}
		}
		return address, why
	}
	expect := func(address, why string) func() error {
		return func() error {
			if a, w := state(); a != address || w != why {
				return fmt.Errorf("%q, %s; want %q, %s", a, w, address, why)
			}
			return nil
		}
	}
	n.eventually("the Service says why it has no address", expect("", v1alpha1.ReasonNoPool))
	n.eventually("an Event says so as well", func() error {
		events, err := n.api.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=web,reason=NoPool"})
		if err == nil && len(events.Items) != 1 {
			err = fmt.Errorf("%d events", len(events.Items))
		}
		return err
	})

	objects, err := config.Manifests("../../config/default")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if kind, is := o.(*apiextensionsv1.CustomResourceDefinition); is {
			if err := n.kinds().Create(t.Context(), kind); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.eventually("the pool is made", func() error {
		return n.kinds().Create(t.Context(), &v1alpha1.LoadBalancerPool{
			ObjectMeta: metav1.ObjectMeta{Name: "public"}, Spec: v1alpha1.LoadBalancerPoolSpec{Addresses: []string{"192.0.2.200"}},
		})
	})
	took := n.eventually("the Service has its address", expect("192.0.2.200", v1alpha1.ReasonAssigned))
	t.Logf("address %v after the pool, of a kind that was not there", took)
	n.eventually("a pod gets there", func() error { return n.answering("client", "192.0.2.200:80", "web-1") })
	n.eventually("and a host that sends to the node what it has for that address", func() error {
		return n.answering("outside", "192.0.2.200:80", "web-1")
	})
}
