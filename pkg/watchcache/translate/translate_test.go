package translate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/model"
)

var byValue = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

func service(change func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "svc", UID: "u1"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080}},
		},
	}
	change(svc)
	return svc
}

func slice(name string, change func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "svc"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.2"}}},
	}
	change(s)
	return s
}

func TestService(t *testing.T) {
	asIs := func(*discoveryv1.EndpointSlice) {}
	base := func() *model.Service {
		return &model.Service{
			Name: model.Name{Namespace: "ns", Name: "svc"}, UID: "u1",
			ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
			Ports:      []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80, NodePort: 30080}},
		}
	}
	endpoints := func(e ...model.Endpoint) []model.EndpointGroup {
		return []model.EndpointGroup{{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}}, Endpoints: e}}
	}
	ready := model.Endpoint{Addr: netip.MustParseAddr("10.244.1.2"), Ready: true, Serving: true}
	for _, tt := range []struct {
		name   string
		svc    func(*corev1.Service)
		slices []*discoveryv1.EndpointSlice
		want   func(*model.Service)
	}{
		{"conditions not set mean ready", func(*corev1.Service) {}, []*discoveryv1.EndpointSlice{slice("a", asIs)},
			func(s *model.Service) { s.Groups = endpoints(ready) }},
		{"all of an endpoint", func(*corev1.Service) {},
			[]*discoveryv1.EndpointSlice{slice("a", func(s *discoveryv1.EndpointSlice) {
				s.Endpoints[0].Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
				s.Endpoints[0].Hostname, s.Endpoints[0].NodeName, s.Endpoints[0].Zone = new("web-0"), new("node1"), new("zone1")
				s.Endpoints[0].Addresses = append(s.Endpoints[0].Addresses, "10.244.1.3")
			})},
			func(s *model.Service) {
				s.Groups = endpoints(model.Endpoint{Addr: ready.Addr, Serving: true, Terminating: true, Hostname: "web-0", Node: "node1", Zone: "zone1"})
			}},
		{"slices in the order of their names", func(*corev1.Service) {},
			[]*discoveryv1.EndpointSlice{
				slice("b", func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses[0] = "10.244.1.3" }), slice("a", asIs)},
			func(s *model.Service) {
				other := ready
				other.Addr = netip.MustParseAddr("10.244.1.3")
				s.Groups = append(endpoints(ready), endpoints(other)...)
			}},
		{"headless", func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }, nil,
			func(s *model.Service) { s.Headless, s.ClusterIPs = true, nil }},
		{"external name", func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org."}
		}, []*discoveryv1.EndpointSlice{slice("a", asIs)},
			func(s *model.Service) { s.ExternalName, s.ClusterIPs, s.Ports = "example.org", nil, nil }},
		{"another proxy's", func(s *corev1.Service) { s.Labels = map[string]string{labelProxyName: ""} }, nil,
			func(s *model.Service) { s.OtherProxy = true }},
		{"dual stack", func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.1", "fd00::1"} },
			[]*discoveryv1.EndpointSlice{slice("a", func(s *discoveryv1.EndpointSlice) {
				s.AddressType, s.Endpoints[0].Addresses = discoveryv1.AddressTypeIPv6, []string{"fd00:1::2"}
			})},
			func(s *model.Service) {
				s.ClusterIPs = append(s.ClusterIPs, netip.MustParseAddr("fd00::1"))
				e := ready
				e.Addr = netip.MustParseAddr("fd00:1::2")
				s.Groups = endpoints(e)
			}},
		{"addresses of old", func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.096.000.001"} },
			[]*discoveryv1.EndpointSlice{slice("a", func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses[0] = "::ffff:10.244.1.2" })},
			func(s *model.Service) { s.Groups = endpoints(ready) }},
		{"all ports, host names of another kind, no addresses", func(*corev1.Service) {},
			[]*discoveryv1.EndpointSlice{
				slice("a", func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = nil }),
				slice("b", func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN }),
				slice("c", func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = nil })},
			func(s *model.Service) {
				s.Groups = []model.EndpointGroup{{Endpoints: []model.Endpoint{ready}}}
			}},
		{"faults are named and the rest stands", func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"10.96.0.1", "nonsense"}
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 70000}, corev1.ServicePort{Protocol: "ICMP", Port: 1},
				corev1.ServicePort{Name: "n", Port: 81, NodePort: -1})
		}, []*discoveryv1.EndpointSlice{slice("a", func(s *discoveryv1.EndpointSlice) {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Port: new(int32(0))}, discoveryv1.EndpointPort{Port: new(int32(1)), Protocol: new(corev1.Protocol("X"))})
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"host"}}, discoveryv1.Endpoint{Addresses: []string{"fd00::2"}})
		})},
			func(s *model.Service) {
				s.Ports = append(s.Ports, model.ServicePort{Name: "n", Protocol: model.TCP, Port: 81})
				s.Groups = endpoints(ready)
				s.Problems = []model.Problem{
					{Field: "spec.clusterIPs[1]", Message: `"nonsense" is no IP address`},
					{Field: "spec.ports[1].port", Message: "70000 is not between 1 and 65535"},
					{Field: "spec.ports[2].protocol", Message: `"ICMP" is not one of TCP, UDP and SCTP`},
					{Field: "spec.ports[3].nodePort", Message: "-1 is not between 1 and 65535"},
					{Field: "EndpointSlice a: ports[1].port", Message: "0 is not between 1 and 65535"},
					{Field: "EndpointSlice a: ports[2].protocol", Message: `"X" is not one of TCP, UDP and SCTP`},
					{Field: "EndpointSlice a: endpoints[1].addresses[0]", Message: `"host" is no IP address`},
					{Field: "EndpointSlice a: endpoints[2].addresses[0]", Message: "fd00::2 is not of the slice's address type IPv4"},
				}
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := base()
			tt.want(want)
			got := Service(service(tt.svc), tt.slices)
			if diff := cmp.Diff(want, got, byValue); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNode(t *testing.T) {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node1", Labels: map[string]string{corev1.LabelTopologyZone: "zone1"}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.1.1/24", "fd00::/64", "?"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "node1"}, {Type: corev1.NodeInternalIP, Address: "172.30.0.11"},
			{Type: corev1.NodeExternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeInternalIP, Address: "?"},
		}},
	}
	want := model.Node{
		Name: "node1", Zone: "zone1", Labels: map[string]string{"topology.kubernetes.io/zone": "zone1"},
		Addrs:    []netip.Addr{netip.MustParseAddr("172.30.0.11"), netip.MustParseAddr("192.0.2.1")},
		PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00::/64")},
	}
	if diff := cmp.Diff(want, Node(node, "node1"), byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for reason, leave := range map[string]func(*corev1.Node){
		"is being deleted":             func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{} },
		"is tainted by the autoscaler": func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}} },
	} {
		leaving := node.DeepCopy()
		leave(leaving)
		if !Node(leaving, "node1").Leaving {
			t.Errorf("a node that %s is not leaving", reason)
		}
	}
	if diff := cmp.Diff(model.Node{Name: "other"}, Node(nil, "other"), byValue); diff != "" {
		t.Errorf("unknown node (-want +got):\n%s", diff)
	}
}

// TestIncrementalEqualsFull makes random changes to a cluster, hands them over in
// random parts and order, some twice, and compares with a build from scratch.
func TestIncrementalEqualsFull(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		services := map[model.Name]*corev1.Service{}
		endpointSlices := map[string]*discoveryv1.EndpointSlice{}
		namespaces := map[string]bool{}
		var snapshot *model.Snapshot
		var generation uint64
		for range 40 {
			ch := randomChanges(rng, services, endpointSlices, namespaces)
			next := Next(snapshot, ch)
			if next == nil || snapshot != nil && next != snapshot && next.Generation != generation+1 {
				t.Fatalf("seed %d: generation %d follows %d", seed, next.Generation, generation)
			}
			snapshot, generation = next, next.Generation
			full := Build(objects(services, endpointSlices, namespaces))
			if diff := cmp.Diff(flat(full), flat(snapshot), byValue); diff != "" {
				t.Fatalf("seed %d (-full +incremental):\n%s", seed, diff)
			}
			if again := Next(snapshot, ch); again != snapshot {
				t.Fatalf("seed %d: the same changes again made a new snapshot", seed)
			}
		}
	}
}

func randomChanges(rng *rand.Rand, services map[model.Name]*corev1.Service, all map[string]*discoveryv1.EndpointSlice, namespaces map[string]bool) Changes {
	ch := Changes{Services: map[model.Name]*model.Service{}, Namespaces: map[string]bool{}, Node: &model.Node{Name: "node1"}}
	for range 1 + rng.IntN(5) {
		name := fmt.Sprint("s", rng.IntN(8))
		key := model.Name{Namespace: "ns", Name: name}
		switch rng.IntN(4) {
		case 0:
			delete(services, key)
		case 1:
			services[key] = service(func(s *corev1.Service) {
				s.Name, s.Spec.Ports[0].Port = name, int32(80+rng.IntN(3))
				s.Spec.Type = []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeLoadBalancer}[rng.IntN(2)]
				s.Spec.ExternalIPs = []string{"192.0.2.1", "fd00::1", "x"}[:rng.IntN(4)]
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.7"}, {IP: "?"}}[:rng.IntN(3)]
				s.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/8", "?", "0.0.0.0/0"}[:rng.IntN(4)]
				s.Spec.SessionAffinity = []corev1.ServiceAffinity{corev1.ServiceAffinityNone, corev1.ServiceAffinityClientIP}[rng.IntN(2)]
				s.Spec.ExternalTrafficPolicy = []corev1.ServiceExternalTrafficPolicy{"", corev1.ServiceExternalTrafficPolicyLocal}[rng.IntN(2)]
				s.Spec.HealthCheckNodePort = int32(rng.IntN(2) * 31000)
			})
		default:
			sliceName := fmt.Sprint(name, "-", rng.IntN(3))
			if rng.IntN(3) == 0 {
				delete(all, sliceName)
			} else {
				all[sliceName] = slice(sliceName, func(s *discoveryv1.EndpointSlice) {
					s.Labels[discoveryv1.LabelServiceName] = name
					s.Endpoints[0].Addresses[0] = fmt.Sprint("10.244.1.", rng.IntN(20))
					if rng.IntN(2) == 0 {
						s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: fmt.Sprintf("2026-01-01T00:00:0%dZ", rng.IntN(9))}
						s.Endpoints[0].Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: fmt.Sprint("z", rng.IntN(3))}}}
					}
				})
			}
		}
		ch.Services[key] = nil
		if svc := services[key]; svc != nil {
			var own []*discoveryv1.EndpointSlice
			for _, s := range all {
				if owner, _ := OwnerOf(s); owner == key {
					own = append(own, s)
				}
			}
			ch.Services[key] = Service(svc, own)
		}
	}
	ns := fmt.Sprint("ns", rng.IntN(4))
	if namespaces[ns] = rng.IntN(2) == 0; !namespaces[ns] {
		delete(namespaces, ns)
	}
	ch.Namespaces[ns] = namespaces[ns]
	return ch
}

func objects(services map[model.Name]*corev1.Service, all map[string]*discoveryv1.EndpointSlice, namespaces map[string]bool) Objects {
	o := Objects{NodeName: "node1"}
	for _, s := range services {
		o.Services = append(o.Services, s)
	}
	for _, s := range all {
		o.EndpointSlices = append(o.EndpointSlices, s)
	}
	for ns := range namespaces {
		o.Namespaces = append(o.Namespaces, ns)
	}
	return o
}

type flatSnapshot struct {
	Services   map[model.Name]*model.Service
	Namespaces map[string]struct{}
	Node       model.Node
}

func flat(s *model.Snapshot) flatSnapshot {
	return flatSnapshot{maps.Collect(s.Services.All()), s.Namespaces, s.Node}
}

func TestUnchangedServiceKeepsItsPointer(t *testing.T) {
	name := model.Name{Namespace: "ns", Name: "svc"}
	make := func() *model.Service { return Service(service(func(*corev1.Service) {}), nil) }
	first := Next(nil, Changes{Services: map[model.Name]*model.Service{name: make()}})
	second := Next(first, Changes{Services: map[model.Name]*model.Service{name: make()}, Namespaces: map[string]bool{"new": true}})
	if second == first {
		t.Fatal("a new namespace made no new snapshot")
	}
	if second.Services.Get(name) != first.Services.Get(name) {
		t.Error("a Service that did not change has a new pointer")
	}
	if changed := second.Services.Diff(&first.Services); len(changed) != 0 {
		t.Errorf("Diff names %v", changed)
	}
}

func TestServiceCIDRs(t *testing.T) {
	cidr := func(texts ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{Spec: networkingv1.ServiceCIDRSpec{CIDRs: texts}}
	}
	objects := []*networkingv1.ServiceCIDR{cidr("10.97.0.0/16", "fd00::/108"), cidr("10.96.0.7/16", "?"), cidr("10.97.0.0/16")}
	want := []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.97.0.0/16"), netip.MustParsePrefix("fd00::/108")}
	first := Build(Objects{ServiceCIDRs: objects})
	if diff := cmp.Diff(want, first.ServiceCIDRs, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if same := Next(first, Changes{ServiceCIDRs: want, AllServiceCIDRs: true}); same != first {
		t.Error("the same ranges made a new snapshot")
	}
	if gone := Next(first, Changes{AllServiceCIDRs: true}); len(gone.ServiceCIDRs) != 0 {
		t.Errorf("ranges that are gone stay: %v", gone.ServiceCIDRs)
	}
}
