//go:build integration

package names

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/netlab"
)

// key is namespace/name, or the name of a namespace.
type key = string

// world is an API server, what was written to it, and both name servers.
type world struct {
	t             *testing.T
	api           kubernetes.Interface
	ours, coreDNS *client

	namespaces map[key]bool
	services   map[key]*corev1.Service
	slices     map[key]*discoveryv1.EndpointSlice
	// marks counts the calls of settle.
	marks int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	server, err := apiserver.Start(t.Context(), apiserver.Options{Args: []string{"--service-cluster-ip-range=" + apiserver.ServiceCIDR + ",fd00:96::/108"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	lab, err := netlab.New("coredns")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lab.Close() })
	w := &world{t: t, namespaces: map[key]bool{}, services: map[key]*corev1.Service{}, slices: map[key]*discoveryv1.EndpointSlice{}}
	if w.api, err = kubernetes.NewForConfig(server.Config()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		w.makeNamespace(name)
	}
	w.load("testdata/dns.yaml")
	pod := lab.Pod("coredns")
	w.coreDNS = startCoreDNS(t, server, pod, startUpstream(t, pod))
	w.ours = startSignpost(t, server, startUpstream(t, nil))
	return w
}

// load makes the objects of a YAML file.
func (w *world) load(file string) {
	w.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, document := range bytes.Split(text, []byte("\n---\n")) {
		if err := w.loadOne(document); err != nil {
			w.t.Fatalf("%s: object %d: %v", file, i+1, err)
		}
	}
}

func (w *world) loadOne(document []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "Namespace":
		ns := &corev1.Namespace{}
		if err := yaml.UnmarshalStrict(document, ns); err != nil {
			return err
		}
		w.makeNamespace(ns.Name)
	case "Service":
		svc := &corev1.Service{}
		if err := yaml.UnmarshalStrict(document, svc); err != nil {
			return err
		}
		w.makeService(svc)
	case "EndpointSlice":
		slice := &discoveryv1.EndpointSlice{}
		if err := yaml.UnmarshalStrict(document, slice); err != nil {
			return err
		}
		w.makeSlice(slice)
	default:
		return fmt.Errorf("kind %q", kind.Kind)
	}
	return nil
}

func (w *world) makeNamespace(name string) {
	w.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := w.api.CoreV1().Namespaces().Create(w.t.Context(), ns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		w.t.Fatal(err)
	}
	w.namespaces[name] = true
}

func (w *world) makeService(svc *corev1.Service) {
	w.t.Helper()
	made, err := w.api.CoreV1().Services(svc.Namespace).Create(w.t.Context(), svc, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.services[keyOf(made)] = made
}

func (w *world) deleteService(svc *corev1.Service) {
	w.t.Helper()
	if err := w.api.CoreV1().Services(svc.Namespace).Delete(w.t.Context(), svc.Name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
	delete(w.services, keyOf(svc))
}

func (w *world) makeSlice(slice *discoveryv1.EndpointSlice) {
	w.t.Helper()
	made, err := w.api.DiscoveryV1().EndpointSlices(slice.Namespace).Create(w.t.Context(), slice, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.slices[keyOf(made)] = made
}

func (w *world) updateSlice(slice *discoveryv1.EndpointSlice) {
	w.t.Helper()
	made, err := w.api.DiscoveryV1().EndpointSlices(slice.Namespace).Update(w.t.Context(), slice, metav1.UpdateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.slices[keyOf(made)] = made
}

func (w *world) deleteSlice(slice *discoveryv1.EndpointSlice) {
	w.t.Helper()
	if err := w.api.DiscoveryV1().EndpointSlices(slice.Namespace).Delete(w.t.Context(), slice.Name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
	delete(w.slices, keyOf(slice))
}

func keyOf(o metav1.Object) key { return o.GetNamespace() + "/" + o.GetName() }

// slicesOf returns the EndpointSlices of a Service, FQDN ones excepted.
func (w *world) slicesOf(service key) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, slice := range w.slices {
		if slice.AddressType != discoveryv1.AddressTypeFQDN && ownerOf(slice) == service {
			out = append(out, slice)
		}
	}
	return out
}

func ownerOf(slice *discoveryv1.EndpointSlice) key {
	return slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
}

// settle returns when both servers know all that was written so far. Each kind is
// a watch of its own, which keeps its order: who knows the last object of each kind
// knows all before it.
func (w *world) settle() {
	w.t.Helper()
	w.marks++
	name := fmt.Sprintf("mark-%d", w.marks)
	addr := netip.AddrFrom4([4]byte{10, 255, byte(w.marks >> 8), byte(w.marks)}).String()
	w.makeNamespace(name)
	w.makeService(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "mark", Namespace: name},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone},
	})
	w.makeSlice(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "mark", Namespace: name, Labels: map[string]string{discoveryv1.LabelServiceName: "mark"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr}}},
	})
	for who, server := range map[string]*client{"Signpost": w.ours, "CoreDNS": w.coreDNS} {
		eventually(w.t, who+" knows all", func() error { return marked(server, name, addr) })
	}
}

func marked(server *client, namespace, addr string) error {
	r, err := server.ask(question{name: "mark." + namespace + ".svc.cluster.local.", qtype: dns.TypeA, class: dns.ClassINET})
	if err != nil {
		return err
	}
	if len(r.Answer) != 1 || !strings.HasSuffix(r.Answer[0].String(), "\t"+addr) {
		return fmt.Errorf("it answers %s %v", dns.RcodeToString[r.Rcode], r.Answer)
	}
	// That of a Service says nothing of its namespace to who has another watch for it.
	r, err = server.ask(question{name: namespace + ".svc.cluster.local.", qtype: dns.TypeA, class: dns.ClassINET})
	if err == nil && r.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("it answers %s for the namespace", dns.RcodeToString[r.Rcode])
	}
	return err
}
