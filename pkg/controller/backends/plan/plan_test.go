package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/endpoints/plan"
)

func service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "uid", Labels: map[string]string{"team": "blue"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.1", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Name: "pg", Port: 5432, Protocol: corev1.ProtocolTCP}},
		},
	}
}

func source(name string, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "db"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("pg"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(5432))}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

// world applies plans as the API server would.
type world struct {
	Input
	writes int
	made   int
}

func newWorld(sources ...*discoveryv1.EndpointSlice) *world {
	return &world{Input: Input{
		Service: service(), Sources: sources, Check: &check.Check{Kind: check.TCP},
		Fails: func(netip.AddrPort) bool { return false },
	}}
}

func (w *world) fail(addresses ...string) {
	w.Fails = func(at netip.AddrPort) bool { return strings.Contains(strings.Join(addresses, " "), at.String()) }
}

func (w *world) apply(t *testing.T) {
	t.Helper()
	for _, write := range Make(w.Input) {
		w.writes++
		s := write.Object.(*discoveryv1.EndpointSlice).DeepCopy()
		switch write.Verb {
		case plan.Create:
			w.made++
			s.UID = types.UID(fmt.Sprint(w.made))
			w.Ours = append(w.Ours, s)
		default:
			rest := w.Ours[:0:0]
			for _, is := range w.Ours {
				if is.UID != s.UID {
					rest = append(rest, is)
				}
			}
			if len(rest) != len(w.Ours)-1 {
				t.Fatalf("%s %s, which does not exist", write.Verb, s.Name)
			}
			if write.Verb == plan.Update {
				rest = append(rest, s)
			}
			w.Ours = rest
		}
	}
	if again := Make(w.Input); len(again) > 0 {
		t.Fatalf("the plan that follows writes, too: %s %+v", again[0].Verb, again[0].Object)
	}
}

// published returns address, conditions (R, S, T) of all endpoints of ours.
func (w *world) published() string {
	var out []string
	for _, s := range sorted(w.Ours) {
		for _, e := range s.Endpoints {
			word := e.Addresses[0] + "/"
			if *e.Conditions.Ready {
				word += "R"
			}
			if *e.Conditions.Serving {
				word += "S"
			}
			if *e.Conditions.Terminating {
				word += "T"
			}
			out = append(out, word)
		}
	}
	return strings.Join(out, " ")
}

func (w *world) want(t *testing.T, want string) {
	t.Helper()
	w.apply(t)
	if got := w.published(); got != want {
		t.Errorf("published: %s, want %s", got, want)
	}
}

func TestLifeOfAService(t *testing.T) {
	w := newWorld(source("a", "192.0.2.1", "192.0.2.2"))
	w.want(t, "192.0.2.1/RS 192.0.2.2/RS")
	w.fail("192.0.2.2:5432")
	w.want(t, "192.0.2.1/RS 192.0.2.2/")
	w.fail()
	w.want(t, "192.0.2.1/RS 192.0.2.2/RS")
	if w.writes != 3 {
		t.Errorf("%d writes for three changes", w.writes)
	}
	w.Sources[0] = source("a", "192.0.2.2")
	w.want(t, "192.0.2.2/RS")
	w.Sources = nil
	w.want(t, "")
	if len(w.Ours) != 0 {
		t.Errorf("left: %+v", w.Ours)
	}
}

func TestSliceOfOurs(t *testing.T) {
	w := newWorld(source("a", "192.0.2.1"))
	w.Sources[0].Endpoints[0].Hostname, w.Sources[0].Endpoints[0].Zone = new("db-1"), new("z")
	w.apply(t)
	want := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "db-signpost-" + w.Ours[0].Labels[LabelSource], UID: "1",
			Labels: map[string]string{
				discoveryv1.LabelServiceName: "db", discoveryv1.LabelManagedBy: "external-backends.signpost.dev",
				LabelSource: w.Ours[0].Labels[LabelSource],
			},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: "db", UID: "uid", Controller: new(true), BlockOwnerDeletion: new(true)}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       w.Sources[0].Ports,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"192.0.2.1"}, Hostname: new("db-1"), Zone: new("z"),
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
		}},
	}
	if diff := cmp.Diff(want, w.Ours[0]); diff != "" {
		t.Error(diff)
	}
	w.Service.Spec.ClusterIP = corev1.ClusterIPNone
	w.apply(t)
	if _, headless := w.Ours[0].Labels[corev1.IsHeadlessService]; !headless {
		t.Error("kube-proxy would look at the slice of a headless Service")
	}
}

// TestOwnersWordCounts: a check takes away, and gives nothing that the owner takes.
func TestOwnersWordCounts(t *testing.T) {
	s := source("a", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
	s.Endpoints[0].Conditions.Ready = new(false)
	s.Endpoints[1].Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	s.Endpoints[2].Conditions = discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	w := newWorld(s)
	w.fail("192.0.2.3:5432")
	w.want(t, "192.0.2.1/ 192.0.2.2/ST 192.0.2.3/T 192.0.2.4/RS")
	w.Service.Spec.PublishNotReadyAddresses = true
	w.fail("192.0.2.4:5432")
	w.want(t, "192.0.2.1/ 192.0.2.2/ST 192.0.2.3/ST 192.0.2.4/R")
}

// TestWhatCannotBeCheckedStays: a slice without the port that is checked, and one
// without a check.
func TestWhatCannotBeCheckedStays(t *testing.T) {
	w := newWorld(source("a", "192.0.2.1"))
	w.Fails = func(netip.AddrPort) bool { return true }
	w.Check.Port = "other"
	w.want(t, "192.0.2.1/RS")
	w.Check = nil
	w.want(t, "192.0.2.1/RS")
}

func TestOursGoWithTheAnnotation(t *testing.T) {
	w := newWorld(source("a", "192.0.2.1"))
	w.apply(t)
	w.Service = nil
	w.want(t, "")
}

// TestServiceThatGoes gets nothing new: that would be in the garbage collector's way.
func TestServiceThatGoes(t *testing.T) {
	w := newWorld(source("a", "192.0.2.1"))
	w.Service.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	if got := Make(w.Input); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// TestOthersAreLeftAlone: a plan names only slices of ours, whatever the sources do.
func TestOthersAreLeftAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	w := newWorld()
	for range 2000 {
		w.Sources = nil
		want := map[string]bool{}
		for _, name := range []string{"a", "b", "c"}[:rng.IntN(4)] {
			s := source(name)
			for i := range rng.IntN(5) {
				a := fmt.Sprintf("192.0.2.%d", i)
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
				want[a] = true
			}
			w.Sources = append(w.Sources, s)
		}
		before := make([]*discoveryv1.EndpointSlice, len(w.Sources))
		for i, s := range w.Sources {
			before[i] = s.DeepCopy()
		}
		for _, write := range Make(w.Input) {
			if !IsOurs(write.Object.(*discoveryv1.EndpointSlice)) {
				t.Fatalf("%s %s", write.Verb, write.Object.GetName())
			}
		}
		w.apply(t)
		if diff := cmp.Diff(before, w.Sources); diff != "" && len(before) > 0 {
			t.Fatal(diff)
		}
		got := map[string]bool{}
		for _, s := range w.Ours {
			for _, e := range s.Endpoints {
				got[e.Addresses[0]] = true
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestFromNames(t *testing.T) {
	svc := service()
	svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPv6Protocol)
	svc.Spec.Ports = []corev1.ServicePort{
		{Name: "pg", Port: 5432}, {Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080), Protocol: corev1.ProtocolTCP},
		{Name: "named", Port: 1, TargetPort: intstr.FromString("x")}, {Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
	}
	var addresses []netip.Addr
	for _, a := range []string{"192.0.2.2", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "127.0.0.1", "169.254.169.254", "::1"} {
		addresses = append(addresses, netip.MustParseAddr(a))
	}
	got, problems := FromNames(svc, addresses)
	text := ""
	for _, s := range got {
		text += string(s.AddressType)
		for _, p := range s.Ports {
			text += fmt.Sprintf(" %s:%d/%s", *p.Name, *p.Port, *p.Protocol)
		}
		for _, e := range s.Endpoints {
			text += " " + e.Addresses[0]
		}
		text += "\n"
	}
	want := "IPv4 pg:5432/TCP http:8080/TCP dns:53/UDP 192.0.2.1 192.0.2.2\nIPv6 pg:5432/TCP http:8080/TCP dns:53/UDP 2001:db8::1\n"
	if text != want {
		t.Errorf("%s", text)
	}
	if len(problems) != 4 || problems[0].Field != "spec.ports[2].targetPort" {
		t.Errorf("%v", problems)
	}
	w := newWorld(got...)
	w.Service = svc
	w.apply(t)
	if len(w.Ours) != 2 {
		t.Errorf("%d slices for two families", len(w.Ours))
	}
}
