//go:build integration

package integration

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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

	t.Log("an address of the node's own network, to which no route leads")
	n.nameServerHere()
	if err := n.kinds().Create(t.Context(), &v1alpha1.LoadBalancerPool{
		ObjectMeta: metav1.ObjectMeta{Name: "link"}, Spec: v1alpha1.LoadBalancerPoolSpec{Addresses: []string{"192.168.1.200"}},
	}); err != nil {
		t.Fatal(err)
	}
	n.makeService("default", "near", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.Selector = corev1.ServiceTypeLoadBalancer, map[string]string{"app": "web"}
		s.Annotations = map[string]string{v1alpha1.AnnotationPool: "link"}
	})
	took = n.eventually("a host of that network finds it", func() error { return n.answering("outside", "192.168.1.200:80", "web-1") })
	t.Logf("%v after the Service was made", took)
	n.eventually("an Event says which node answers", func() error {
		events, err := n.api.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=near,reason=NodeAssigned"})
		if err == nil && (len(events.Items) != 1 || events.Items[0].Message != "node node1 answers for 192.168.1.200") {
			err = fmt.Errorf("%v", events.Items)
		}
		return err
	})
	if err := n.api.CoreV1().Services("default").Delete(t.Context(), "near", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.eventually("nobody answers any more", func() error {
		if _, err := n.dial("outside", "192.168.1.200:80"); err == nil {
			return errors.New("somebody does")
		}
		return nil
	})
}

// nameServerHere says that this node's daemon is behind the name server's Service:
// by that daemons find each other.
func (n *node) nameServerHere() {
	n.t.Helper()
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns-test", Labels: map[string]string{discoveryv1.LabelServiceName: "kube-dns"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{n.lab.Node.Addrs[0].String()}, NodeName: new(nodeName)}},
		Ports:       []discoveryv1.EndpointPort{{Name: new("dns"), Port: new(int32(10053)), Protocol: new(corev1.ProtocolUDP)}},
	}
	if _, err := n.api.DiscoveryV1().EndpointSlices("kube-system").Create(n.t.Context(), slice, metav1.CreateOptions{}); err != nil {
		n.t.Fatal(err)
	}
}
