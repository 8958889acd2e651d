package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/watchcache/translate"
)

// nodeName is the node whose view of the cluster a scenario tells.
const nodeName = "node1"

// cluster is what the API says.
type cluster struct {
	services []*corev1.Service
	pods     []*corev1.Pod
	nodes    []*corev1.Node
	slices   []*discoveryv1.EndpointSlice
	spaces   []string
	cidrs    []*networkingv1.ServiceCIDR
}

func readCluster(t *testing.T, data []byte) *cluster {
	t.Helper()
	c := &cluster{}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(data)))
	defer func() { _ = documents.Close() }()
	buffer := make([]byte, 1<<20)
	for {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return c
		}
		if err != nil {
			t.Fatalf("cluster.yaml: %v", err)
		}
		if len(bytes.TrimSpace(buffer[:n])) == 0 {
			continue
		}
		object, _, err := decoder.Decode(buffer[:n], nil, nil)
		if err != nil {
			t.Fatalf("cluster.yaml: %v\n%s", err, buffer[:n])
		}
		c.add(t, object)
	}
}

// add takes an object as the API server would hand it out, which for the
// scenarios means: in namespace default unless it says otherwise.
func (c *cluster) add(t *testing.T, object runtime.Object) {
	t.Helper()
	switch o := object.(type) {
	case *corev1.Service:
		o.Namespace = orDefault(o.Namespace)
		if len(o.Spec.ClusterIPs) == 0 && o.Spec.ClusterIP != "" {
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
		c.services = append(c.services, o)
		c.spaces = append(c.spaces, o.Namespace)
	case *corev1.Pod:
		o.Namespace = orDefault(o.Namespace)
		o.Status.PodIPs = []corev1.PodIP{{IP: o.Status.PodIP}}
		c.pods = append(c.pods, o)
	case *corev1.Node:
		c.nodes = append(c.nodes, o)
	case *discoveryv1.EndpointSlice:
		o.Namespace = orDefault(o.Namespace)
		c.slices = append(c.slices, o)
	case *networkingv1.ServiceCIDR:
		c.cidrs = append(c.cidrs, o)
	case *corev1.Namespace:
		c.spaces = append(c.spaces, o.Name)
	default:
		t.Fatalf("cluster.yaml: a %T has no part in scenarios", object)
	}
}

func orDefault(namespace string) string {
	if namespace == "" {
		return corev1.NamespaceDefault
	}
	return namespace
}

// snapshot lets the leader plan and the node translate.
func (c *cluster) snapshot(t *testing.T) *model.Snapshot {
	t.Helper()
	o := translate.Objects{Services: c.services, EndpointSlices: c.slices, Namespaces: c.spaces, ServiceCIDRs: c.cidrs, NodeName: nodeName}
	for _, n := range c.nodes {
		if n.Name == nodeName {
			o.Node = n
		}
	}
	for _, svc := range c.services {
		o.EndpointSlices = append(o.EndpointSlices, c.planned(t, svc)...)
	}
	return translate.Build(o)
}

func (c *cluster) planned(t *testing.T, svc *corev1.Service) []*discoveryv1.EndpointSlice {
	t.Helper()
	if !plan.SelectsPods(svc) {
		return nil
	}
	in := plan.Input{Service: svc, Zones: map[string]string{}}
	for _, n := range c.nodes {
		in.Zones[n.Name] = n.Labels[corev1.LabelTopologyZone]
	}
	for _, p := range c.pods {
		if p.Namespace == svc.Namespace && labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(p.Labels)) {
			in.Pods = append(in.Pods, p)
		}
	}
	var out []*discoveryv1.EndpointSlice
	for i, w := range plan.Make(in, plan.Options{EndpointSlices: true, MaxEndpointsPerSlice: 100}).Writes {
		slice, ok := w.Object.(*discoveryv1.EndpointSlice)
		if !ok || w.Verb != plan.Create {
			t.Fatalf("for a new Service the plan is to %s a %T", w.Verb, w.Object)
		}
		slice = slice.DeepCopy()
		slice.Name = fmt.Sprint(slice.GenerateName, i)
		out = append(out, slice)
	}
	return out
}
