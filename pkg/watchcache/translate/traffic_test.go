package translate

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/model"
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func ranges(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// TestTraffic is about what a Service says of packets beyond its cluster IPs.
func TestTraffic(t *testing.T) {
	ingress := func(s *corev1.Service, in ...corev1.LoadBalancerIngress) {
		s.Spec.Type, s.Status.LoadBalancer.Ingress = corev1.ServiceTypeLoadBalancer, in
	}
	for _, tt := range []struct {
		name     string
		svc      func(*corev1.Service)
		want     model.Service
		problems []string
	}{
		{name: "nothing", svc: func(*corev1.Service) {}},
		{name: "external IPs, sloppy and twice", svc: func(s *corev1.Service) {
			s.Spec.ExternalIPs = []string{"192.000.002.001", "::ffff:192.0.2.1", "fd00::1", "x"}
		}, want: model.Service{ExternalIPs: addrs("192.0.2.1", "fd00::1")}, problems: []string{`spec.externalIPs[3]: "x" is no IP address`}},
		{name: "load balancer", svc: func(s *corev1.Service) {
			ingress(s, corev1.LoadBalancerIngress{IP: "192.0.2.1"}, corev1.LoadBalancerIngress{Hostname: "lb.example"},
				corev1.LoadBalancerIngress{IP: "192.0.2.2", IPMode: new(corev1.LoadBalancerIPModeProxy)},
				corev1.LoadBalancerIngress{IP: "192.0.2.3", IPMode: new(corev1.LoadBalancerIPModeVIP)}, corev1.LoadBalancerIngress{IP: "?"})
		}, want: model.Service{LoadBalancerIPs: addrs("192.0.2.1", "192.0.2.3")}, problems: []string{`status.loadBalancer.ingress[4].ip: "?" is no IP address`}},
		{name: "addresses from Signpost", svc: func(s *corev1.Service) {
			ingress(s, corev1.LoadBalancerIngress{IP: "192.0.2.1"})
			s.Status.Conditions = []metav1.Condition{{Type: "other", Status: "True"}, {Type: v1alpha1.ConditionAddressAssigned, Status: "True"}}
		}, want: model.Service{LoadBalancerIPs: addrs("192.0.2.1"), Announced: true}},
		{name: "addresses from somebody else", svc: func(s *corev1.Service) {
			ingress(s, corev1.LoadBalancerIngress{IP: "192.0.2.1"})
			s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAddressAssigned, Status: "False"}}
		}, want: model.Service{LoadBalancerIPs: addrs("192.0.2.1")}},
		{name: "source ranges", svc: func(s *corev1.Service) {
			ingress(s, corev1.LoadBalancerIngress{IP: "192.0.2.1"})
			s.Spec.LoadBalancerSourceRanges = []string{" 10.1.0.7/16 ", "010.001.0.0/16", "fd00::/8", "?"}
		}, want: model.Service{LoadBalancerIPs: addrs("192.0.2.1"), SourceRanges: ranges("10.1.0.0/16", "fd00::/8")},
			problems: []string{`spec.loadBalancerSourceRanges[3]: "?" is no range of addresses`}},
		{name: "source ranges that are all of a family", svc: func(s *corev1.Service) {
			ingress(s, corev1.LoadBalancerIngress{IP: "192.0.2.1"})
			s.Spec.LoadBalancerSourceRanges = []string{"10.1.0.0/16", "fd00::/8", "1.2.3.4/0"}
		}, want: model.Service{LoadBalancerIPs: addrs("192.0.2.1"), SourceRanges: ranges("fd00::/8")}},
		{name: "source ranges that cannot be read open nothing", svc: func(s *corev1.Service) {
			ingress(s, corev1.LoadBalancerIngress{IP: "192.0.2.1"})
			s.Spec.LoadBalancerSourceRanges = []string{"?"}
		}, problems: []string{`spec.loadBalancerSourceRanges[0]: "?" is no range of addresses`, "spec.loadBalancerSourceRanges: allows nobody, as none of it can be read"}},
		{name: "affinity", svc: func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(60))}}
		}, want: model.Service{AffinityTimeout: time.Minute}},
		{name: "affinity by default", svc: func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP },
			want: model.Service{AffinityTimeout: 3 * time.Hour}},
		{name: "affinity for no time", svc: func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: new(int32(0))}}
		}, want: model.Service{AffinityTimeout: 3 * time.Hour},
			problems: []string{"spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not between 1 and 86400, 10800 is taken"}},
		{name: "affinity to what", svc: func(s *corev1.Service) { s.Spec.SessionAffinity = "Cookie" },
			problems: []string{`spec.sessionAffinity: "Cookie" is not one of ClientIP and None`}},
		{name: "policies of a Service for the cluster only", svc: func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy, s.Spec.InternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal, new(corev1.ServiceInternalTrafficPolicyLocal)
		}, want: model.Service{InternalLocal: true}},
		{name: "policy with external IPs", svc: func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy, s.Spec.ExternalIPs = corev1.ServiceExternalTrafficPolicyLocal, []string{"192.0.2.1"}
		}, want: model.Service{ExternalLocal: true, ExternalIPs: addrs("192.0.2.1")}},
		{name: "policy of a NodePort has no health check", svc: func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceTypeNodePort, corev1.ServiceExternalTrafficPolicyLocal, 31000
		}, want: model.Service{ExternalLocal: true}},
		{name: "health check", svc: func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal, 31000
		}, want: model.Service{ExternalLocal: true, HealthCheckNodePort: 31000}},
		{name: "health check without port", svc: func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		}, want: model.Service{ExternalLocal: true},
			problems: []string{"spec.healthCheckNodePort: 0 is not between 1 and 65535: load balancers cannot find out where the endpoints are"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Service(service(tt.svc), nil)
			var problems []string
			for _, p := range got.Problems {
				problems = append(problems, p.String())
			}
			if diff := cmp.Diff(tt.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			base := Service(service(func(*corev1.Service) {}), nil)
			tt.want.Name, tt.want.UID, tt.want.ClusterIPs, tt.want.Ports = base.Name, base.UID, base.ClusterIPs, base.Ports
			got.Problems = nil
			if diff := cmp.Diff(&tt.want, got, byValue); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestHintsAndTrigger checks what a slice says beyond addresses.
func TestHintsAndTrigger(t *testing.T) {
	hinted := func(e *discoveryv1.Endpoint, zones ...string) {
		e.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: "n1"}}}
		for _, z := range zones {
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: z})
		}
	}
	make := func(at string) *model.Service {
		return Service(service(func(*corev1.Service) {}), []*discoveryv1.EndpointSlice{slice("a", func(s *discoveryv1.EndpointSlice) {
			s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: at}
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.244.1.3"}}, discoveryv1.Endpoint{Addresses: []string{"10.244.1.4"}})
			hinted(&s.Endpoints[0], "zb", "za")
			hinted(&s.Endpoints[1], "za", "zb")
			s.Endpoints[2].Hints = &discoveryv1.EndpointHints{}
		})})
	}
	group := make("2026-01-02T03:04:05.5+01:00").Groups[0]
	if want := time.Date(2026, 1, 2, 2, 4, 5, 5e8, time.UTC); group.Triggered != want {
		t.Errorf("triggered at %s, want %s", group.Triggered, want)
	}
	if got := make("yesterday").Groups[0].Triggered; !got.IsZero() {
		t.Errorf("yesterday is %s", got)
	}
	want := &model.Hints{Nodes: []string{"n1"}, Zones: []string{"za", "zb"}}
	if got := group.Endpoints[0].Hints; !reflect.DeepEqual(got, want) {
		t.Errorf("hints %v", got)
	}
	if group.Endpoints[0].Hints != group.Endpoints[1].Hints || group.Endpoints[2].Hints != nil {
		t.Errorf("hints are not shared, or are there for nobody")
	}
}

// FuzzService checks that nothing in a Service or a slice makes a panic, that
// each address that comes out can be one, and that ranges are never lost: a Service that
// has some keeps some, or nobody gets in.
func FuzzService(f *testing.F) {
	f.Add("10.96.0.1", "192.0.2.1", "10.0.0.0/8", "10.244.1.2", int32(80), int32(10800), "zone")
	f.Add("None", "::ffff:1.2.3.4", " 0::0/0", "fe80::1%eth0", int32(-1), int32(0), "\x00")
	f.Add("010.1.1.1", "0.0.0.0", "::ffff:0:0/96", "1.1", int32(70000), int32(-5), "a,b")
	f.Fuzz(func(t *testing.T, cluster, external, source, endpoint string, port, timeout int32, text string) {
		svc := service(func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{
				Type: corev1.ServiceType(text), ClusterIP: cluster, ClusterIPs: []string{cluster}, ExternalIPs: []string{external},
				LoadBalancerSourceRanges: []string{source}, SessionAffinity: corev1.ServiceAffinityClientIP,
				SessionAffinityConfig: &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &timeout}},
				ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: port,
				Ports: []corev1.ServicePort{{Name: text, Port: port, NodePort: port, Protocol: corev1.Protocol(text)}, {Port: port}},
			}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: external, IPMode: (*corev1.LoadBalancerIPMode)(&text)}, {IP: external}}
		})
		es := slice(text, func(s *discoveryv1.EndpointSlice) {
			s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: text}
			s.Ports = []discoveryv1.EndpointPort{{Name: &text, Port: &port}, {Protocol: (*corev1.Protocol)(&text), Port: &port}}
			s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{endpoint}, NodeName: &text, Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: text}}}}}
		})
		got := Service(svc, []*discoveryv1.EndpointSlice{es})
		all := slices.Concat(got.ClusterIPs, got.ExternalIPs, got.LoadBalancerIPs)
		for _, g := range got.Groups {
			all = append(all, g.Endpoints[0].Addr)
		}
		for _, a := range all {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				t.Errorf("address %v", a)
			}
		}
		if got.AffinityTimeout < time.Second && !got.Headless || got.AffinityTimeout > maxAffinity {
			t.Errorf("timeout %s", got.AffinityTimeout)
		}
		open := len(got.LoadBalancerIPs) > 0 && len(got.SourceRanges) == 0
		if p, ok := parsePrefix(source); open && (!ok || p.Bits() > 0) {
			t.Errorf("%q lets everybody in", source)
		}
		for _, p := range got.Problems {
			if p.Field == "" || p.Message == "" || strings.HasPrefix(p.Field, "[") {
				t.Errorf("problem %v", p)
			}
		}
	})
}
