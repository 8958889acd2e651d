//go:build integration

package loadbalancer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// mapper knows the two kinds without asking the server, which may not have one.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	m.Add(v1alpha1.GroupVersion().WithKind(v1alpha1.LoadBalancerPoolKind), meta.RESTScopeRoot)
	m.Add(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"), meta.RESTScopeRoot)
	return m
}

// TestGivesKeepsAndReturns is the life of an address.
func TestGivesKeepsAndReturns(t *testing.T) {
	w := newCluster(t)
	stop := w.start()
	w.makeService("a")
	w.says("a", "False NoPool: there is no LoadBalancerPool")
	w.makePool(poolOf("public", "192.0.2.1-192.0.2.2"))
	w.says("a", "192.0.2.1")
	w.makeService("b", v1alpha1.AnnotationAddresses, "192.0.2.2")
	b := w.says("b", "192.0.2.2")
	if mode := b.Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeVIP {
		t.Errorf("ipMode is %v", mode)
	}
	w.poolSays("public", "True Ready 2/0")
	w.makeService("c")
	w.says("c", "False PoolExhausted: no IPv4 address is free in LoadBalancerPool public")
	// Who is stopped may not have said what it has written.
	w.Eventually("the event of c", func() bool {
		return slices.Contains(w.events(), "Warning c PoolExhausted: no IPv4 address is free in LoadBalancerPool public")
	})

	// Who comes next decides the same.
	stop()
	before := w.get("b").ResourceVersion
	w.start()
	w.Remove(w.service("a"))
	w.says("c", "192.0.2.1")
	if now := w.get("b").ResourceVersion; now != before {
		t.Error("a restart writes to a Service of which nothing has changed")
	}

	// What is no load balancer any more says nothing of one.
	w.Merge(w.service("b"), `{"spec": {"type": "ClusterIP"}}`)
	w.Eventually("b has neither address nor condition", func() bool {
		svc := w.get("b")
		return len(svc.Status.LoadBalancer.Ingress) == 0 && len(svc.Status.Conditions) == 0
	})
	w.makeService("d")
	w.says("d", "192.0.2.2")

	// Somebody who writes what is not so is corrected.
	w.MergeStatus(w.service("d"), `{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}`)
	w.says("d", "192.0.2.2")
	w.Eventually("events", func() bool {
		return cmp.Equal(w.events(), []string{
			"Normal a Assigned: 192.0.2.1 of LoadBalancerPool public",
			"Normal c Assigned: 192.0.2.1 of LoadBalancerPool public",
			"Warning a NoPool: there is no LoadBalancerPool",
			"Warning c PoolExhausted: no IPv4 address is free in LoadBalancerPool public",
		})
	})
}

// TestAddressesMoveWithoutOverlap: an address that goes from one Service to
// another is never in the status of both.
func TestAddressesMoveWithoutOverlap(t *testing.T) {
	w := newCluster(t)
	w.start()
	w.makePool(poolOf("p", "192.0.2.1-192.0.2.2"))
	w.makeService("a")
	w.says("a", "192.0.2.1")
	w.makeService("b")
	w.says("b", "192.0.2.2")
	w.makeService("c", v1alpha1.AnnotationAddresses, "192.0.2.1")
	c := w.says("c", "False AddressTaken: 192.0.2.1 is taken by Service "+w.Namespace+"/a, not shared with it")
	services, err := client.NewWithWatch(w.Config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	watched, err := services.Watch(t.Context(), &corev1.ServiceList{}, &client.ListOptions{Namespace: w.Namespace, Raw: &metav1.ListOptions{ResourceVersion: c.ResourceVersion}})
	if err != nil {
		t.Fatal(err)
	}
	defer watched.Stop()
	w.Remove(w.service("b"))
	w.Merge(w.service("a"), fmt.Sprintf(`{"metadata": {"annotations": {%q: "192.0.2.2"}}}`, v1alpha1.AnnotationAddresses))
	w.says("a", "192.0.2.2")
	w.says("c", "192.0.2.1")
	has := map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"}
	for has["c"] != "192.0.2.1" {
		event := <-watched.ResultChan()
		svc, ok := event.Object.(*corev1.Service)
		if !ok {
			t.Fatalf("%v", event)
		}
		has[svc.Name] = ""
		if ingress := svc.Status.LoadBalancer.Ingress; len(ingress) > 0 && event.Type != "DELETED" {
			has[svc.Name] = ingress[0].IP
		}
		for x, mine := range has {
			for y, theirs := range has {
				if x != y && mine != "" && mine == theirs {
					t.Fatalf("%s and %s both have %s", x, y, mine)
				}
			}
		}
	}
}

// TestWithoutTheKind: all goes on, says why, and goes on better when the kind comes.
func TestWithoutTheKind(t *testing.T) {
	w := newClusterWithoutKind(t)
	w.start()
	w.makeService("a")
	w.says("a", "False NoPool: the kind LoadBalancerPool is not installed in this cluster: apply config/default/load-balancer-pools.yaml")
	w.installKind()
	w.makePool(poolOf("p", "192.0.2.1"))
	w.says("a", "192.0.2.1")
	if err := w.kinds.Delete(t.Context(), &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "loadbalancerpools.signpost.dev"}}); err != nil {
		t.Fatal(err)
	}
	w.says("a", "192.0.2.1 True KeptOutsidePools: 192.0.2.1 is in no LoadBalancerPool any more; it is kept until the Service gives it up")
	w.makeService("b")
	w.says("b", "False NoPool: the kind LoadBalancerPool is not installed in this cluster: apply config/default/load-balancer-pools.yaml")
}

// TestBadInput: each gets its own error, and nobody else notices.
func TestBadInput(t *testing.T) {
	w := newCluster(t)
	w.start()
	w.makePool(poolOf("good", "192.0.2.10-192.0.2.19"))
	w.makeService("good")
	before := w.says("good", "192.0.2.10").ResourceVersion

	// What the server refuses.
	for addresses, want := range map[string]string{
		"192.0.2.1/24":           "a CIDR is the address of a whole network, such as 192.0.2.0/24",
		"192.0.2.10-2001:db8::1": "a range is two addresses of one family, such as 192.0.2.10-192.0.2.20",
		"192.0.2.10-192.0.2.":    "a range is two addresses of one family, such as 192.0.2.10-192.0.2.20",
		"example.com":            "must be a CIDR, a range FIRST-LAST, or an address",
	} {
		if err := w.kinds.Create(t.Context(), poolOf("bad", addresses)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pool of %q: %v, want %q", addresses, err, want)
		}
	}
	// What it cannot see.
	w.makePool(poolOf("backwards", "198.51.100.9-198.51.100.1"))
	w.poolSays("backwards", `False Malformed: spec.addresses[0]: "198.51.100.9-198.51.100.1" ends before it begins`)
	w.makePool(poolOf("loopback", "127.0.0.0/8"))
	w.poolSays("loopback", `False Malformed: spec.addresses[0]: "127.0.0.0/8" has addresses of 127.0.0.0/8, which no Service can have`)
	w.makePool(poolOf("overlaps", "192.0.2.0/28", "203.0.113.0/24"))
	w.poolSays("overlaps", "False Overlap: 192.0.2.10-192.0.2.14 is in LoadBalancerPool good as well, which is older 1/0")

	w.makeService("outside", v1alpha1.AnnotationAddresses, "198.18.0.1")
	w.says("outside", "False AddressOutsidePools: 198.18.0.1 is in no LoadBalancerPool")
	w.makeService("in-overlap", v1alpha1.AnnotationAddresses, "203.0.113.7")
	w.says("in-overlap", "False PoolNotReady: LoadBalancerPool overlaps is not ready: 192.0.2.10-192.0.2.14 is in LoadBalancerPool good as well, which is older")
	w.makeService("first", v1alpha1.AnnotationAddresses, "192.0.2.19")
	w.says("first", "192.0.2.19")
	w.makeService("second", v1alpha1.AnnotationAddresses, "192.0.2.19")
	w.says("second", "False AddressTaken: 192.0.2.19 is taken by Service "+w.Namespace+"/first, not shared with it")
	w.makeService("nonsense", v1alpha1.AnnotationAddresses, "192.0.2.300")
	w.says("nonsense", `False InvalidRequest: annotation signpost.dev/addresses: "192.0.2.300" is not an address`)
	w.makeService("internal", "service.beta.kubernetes.io/aws-load-balancer-internal", "true")
	svc := w.get("internal")
	w.Eventually("internal has its reason", func() bool {
		svc = w.get("internal")
		return strings.HasPrefix(line(svc), "False NoPool: no LoadBalancerPool is for it: ")
	})
	t.Log(line(svc))

	if after := w.get("good"); after.ResourceVersion != before {
		t.Errorf("somebody has written to the good Service: %s", line(after))
	}
	w.makeService("good-2")
	w.says("good-2", "192.0.2.11")
}

// TestClasses: Services of others are left alone, but for being told so when
// nobody has served them.
func TestClasses(t *testing.T) {
	w := newCluster(t)
	w.unclassed = false
	w.makePool(poolOf("p", "192.0.2.1-192.0.2.9"))
	served := w.service("served")
	served.Spec.LoadBalancerClass = new("example.com/lb")
	w.Make(served)
	w.MergeStatus(served, `{"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}`)
	version := w.get("served").ResourceVersion
	w.start()
	w.makeService("unclassed")
	ours := w.service("ours")
	ours.Spec.LoadBalancerClass = new(v1alpha1.LoadBalancerClass)
	w.Make(ours)
	w.says("ours", "192.0.2.2")
	w.poolSays("p", "True Ready 2/7")
	if svc := w.get("served"); svc.ResourceVersion != version {
		t.Errorf("somebody has written to another's Service: %s", line(svc))
	}
	if svc := w.get("unclassed"); line(svc) != "" {
		t.Errorf("not yet 30 s old, and told already: %s", line(svc))
	}
}

// TestNamespaces: pools select namespaces by their labels as they are now.
func TestNamespaces(t *testing.T) {
	w := newCluster(t)
	p := poolOf("p", "192.0.2.1")
	p.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"outside": "yes"}}
	w.makePool(p)
	w.start()
	w.makeService("a")
	w.says("a", "False NoPool: no LoadBalancerPool is for it: p selects other namespaces")
	w.Merge(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Namespace}}, `{"metadata": {"labels": {"outside": "yes"}}}`)
	w.says("a", "192.0.2.1")
}

// TestAnotherControllerServes: whoever else gives an address to a Service without
// a class has it, also if we were quicker to say that there is none.
func TestAnotherControllerServes(t *testing.T) {
	w := newCluster(t)
	w.start()
	w.makeService("a")
	w.says("a", "False NoPool: there is no LoadBalancerPool")
	w.MergeStatus(w.service("a"), `{"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}}`)
	w.Eventually("our condition is gone", func() bool { return len(w.get("a").Status.Conditions) == 0 })
	w.makePool(poolOf("p", "192.0.2.1"))
	w.makeService("b")
	w.says("b", "192.0.2.1")
	if in := w.get("a").Status.LoadBalancer.Ingress; len(in) != 1 || in[0].Hostname != "lb.example.com" {
		t.Errorf("the address of somebody else is %v now", in)
	}
}
