package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/bench/world"
)

const (
	namespace = "bench"
	hostName  = "node-0"
	// single is how many Services have one endpoint only, so that each connection says
	// where the rules lead. They are the first ones.
	single = 10
	// inParallel is how many requests make the cluster.
	inParallel   = 16
	servicePort  = 80
	endpointPort = 8080
)

// cluster is Services and their slices, in the API.
type cluster struct {
	client.Client
	shape    world.Shape
	services []*service
	rng      *rand.Rand
}

// service is a Service and the slice of its endpoints.
type service struct {
	addr  netip.AddrPort
	slice *discoveryv1.EndpointSlice
	// away are the endpoints that it had before they were taken away; gone is whether the
	// Service is deleted. Both are for disturb.
	away []discoveryv1.Endpoint
	gone bool
}

func newCluster(ctx context.Context, server *apiserver.Server, s world.Shape) (*cluster, error) {
	config := server.Config()
	config.ContentType = runtime.ContentTypeProtobuf
	api, err := client.New(config, client.Options{})
	if err != nil {
		return nil, err
	}
	c := &cluster{Client: api, shape: s, services: make([]*service, s.Services), rng: rand.New(rand.NewPCG(1, 2))}
	err = c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	if err != nil {
		return nil, err
	}
	if err := c.createNode(ctx); err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	for i := range s.Services {
		group.Go(func() (err error) {
			c.services[i], err = c.createService(ctx, i)
			return err
		})
	}
	return c, group.Wait()
}

func (c *cluster) createNode(ctx context.Context) error {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: hostName}, Spec: corev1.NodeSpec{PodCIDR: podRange, PodCIDRs: []string{podRange}}}
	if err := c.Create(ctx, n); err != nil {
		return err
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.1.10"}}
	return c.Status().Update(ctx, n)
}

func (c *cluster) createService(ctx context.Context, i int) (*service, error) {
	s := object(i)
	name := s.Name
	if err := c.Create(ctx, s); err != nil {
		return nil, err
	}
	addr, err := netip.ParseAddr(s.Spec.ClusterIP)
	if err != nil {
		return nil, err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(endpointPort)), Protocol: new(corev1.ProtocolTCP)}},
	}
	n := c.shape.PodsEach
	if i < single {
		n = 1
	}
	for e := range n {
		slice.Endpoints = append(slice.Endpoints, endpoint(i*c.shape.PodsEach+e, false))
	}
	return &service{addr: netip.AddrPortFrom(addr, servicePort), slice: slice}, c.Create(ctx, slice)
}

// object is a Service that has not been created.
func object(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("service-%06d", i)},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: servicePort}}},
	}
}

// endpoint is one with the number n, in the pod b or else in a.
func endpoint(n int, b bool) discoveryv1.Endpoint {
	base := anyA
	if b {
		base = anyB
	}
	a := base.Addr().As4()
	a[1], a[2], a[3] = a[1]+byte(n/62500), byte(n/250%250), byte(n%250+1)
	return discoveryv1.Endpoint{
		Addresses: []string{netip.AddrFrom4(a).String()}, NodeName: new("elsewhere"),
		Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
	}
}

// swap moves the only endpoint of one of the first Services to the other pod, and returns which
// pod that is.
func (c *cluster) swap(ctx context.Context, i int) (to byte, err error) {
	s := c.services[i]
	b := !anyB.Contains(netip.MustParseAddr(s.slice.Endpoints[0].Addresses[0]))
	s.slice.Endpoints[0] = endpoint(i*c.shape.PodsEach, b)
	to = 'a'
	if b {
		to = 'b'
	}
	return to, c.Update(ctx, s.slice)
}

// disturb does something to one of the first half of all Services: it moves an endpoint, takes all
// endpoints away or brings them back, or deletes the Service, which comes back another time.
// Not for concurrent use.
func (c *cluster) disturb(ctx context.Context) error {
	i := c.rng.IntN(len(c.services) / 2)
	s := c.services[i]
	switch kind := c.rng.IntN(10); {
	case s.gone:
		s.gone = false
		return c.Create(ctx, object(i))
	case kind == 0:
		s.gone = true
		return c.Delete(ctx, object(i))
	case kind == 1 || s.away != nil:
		s.slice.Endpoints, s.away = s.away, s.slice.Endpoints
		return c.Update(ctx, s.slice)
	}
	e := c.rng.IntN(len(s.slice.Endpoints))
	s.slice.Endpoints[e] = endpoint(i*c.shape.PodsEach+e, c.rng.IntN(2) == 0)
	return c.Update(ctx, s.slice)
}

// change moves one endpoint of some other Service to the other pod. Not for
// concurrent use.
func (c *cluster) change(ctx context.Context) error {
	i := single + c.rng.IntN(len(c.services)-single)
	s := c.services[i]
	e := c.rng.IntN(len(s.slice.Endpoints))
	b := !anyB.Contains(netip.MustParseAddr(s.slice.Endpoints[e].Addresses[0]))
	s.slice.Endpoints[e] = endpoint(i*c.shape.PodsEach+e, b)
	return c.Update(ctx, s.slice)
}
