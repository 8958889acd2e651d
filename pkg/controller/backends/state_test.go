package backends

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
)

func request(t *testing.T, annotations ...string) check.Request {
	t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
	for i := 0; i < len(annotations); i += 2 {
		svc.Annotations["signpost.dev/"+annotations[i]] = annotations[i+1]
	}
	out, ok := check.Read(svc)
	if !ok {
		t.Fatal("nothing is asked")
	}
	return out
}

// slice has endpoints at port 80; one with a minus is not ready.
func slice(name string, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name}, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(80))}}}
	for _, a := range addresses {
		e := discoveryv1.Endpoint{Addresses: []string{a}}
		if a[0] == '-' {
			e = discoveryv1.Endpoint{Addresses: []string{a[1:]}, Conditions: discoveryv1.EndpointConditions{Ready: new(false), Serving: new(false)}}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// hear has so many nodes find a backend in that state.
func (s *state) hear(at string, n int, found verdict.State) {
	b := s.backends[netip.MustParseAddrPort(at)]
	b.findings = nil
	for range n {
		b.findings = append(b.findings, verdict.Finding{State: found, Cause: verdict.Refused * verdict.Cause(found/verdict.Down)})
	}
	s.heard = time.Now()
}

func (s *state) text() string {
	w := s.word()
	return fmt.Sprintf("%s %s: %s", w.status, w.reason, w.message)
}

func TestWords(t *testing.T) {
	slices := func(s ...*discoveryv1.EndpointSlice) []*discoveryv1.EndpointSlice { return s }
	v6 := slice("b", "2001:db8::1")
	for name, test := range map[string]struct {
		request check.Request
		sources []*discoveryv1.EndpointSlice
		up      []string
		down    []string
		want    string
	}{
		"none":        {request(t, "health-check", "tcp"), nil, nil, nil, "False NoBackends: there are no backends: nothing is in the Endpoints or EndpointSlices of the Service"},
		"no check":    {request(t, "backend-names", "a"), slices(slice("a", "192.0.2.1")), nil, nil, "True NotChecked: none of 1 backend is checked: there is no annotation signpost.dev/health-check"},
		"too early":   {request(t, "health-check", "tcp"), slices(slice("a", "192.0.2.1", "192.0.2.2")), nil, nil, "Unknown Checking: none of 2 backends has been checked by enough nodes yet; until then all get packets"},
		"one is new":  {request(t, "health-check", "tcp"), slices(slice("a", "192.0.2.1", "192.0.2.2")), []string{"192.0.2.1:80"}, nil, "Unknown Checking: 1 of 2 backends not checked by enough nodes yet"},
		"all work":    {request(t, "health-check", "tcp"), slices(slice("a", "192.0.2.1", "-192.0.2.2")), []string{"192.0.2.1:80"}, nil, "True AllHealthy: 1 of 1 backend pass the check"},
		"one is down": {request(t, "health-check", "tcp"), slices(slice("a", "192.0.2.1", "192.0.2.2")), []string{"192.0.2.1:80"}, []string{"192.0.2.2:80"}, "False BackendsDown: 1 of 2 backends fail the check: 192.0.2.2:80 (connection refused)"},
		"all of a family are down": {request(t, "health-check", "tcp"), slices(slice("a", "192.0.2.1"), v6), []string{"192.0.2.1:80"}, []string{"[2001:db8::1]:80"},
			"False FailOpen: 1 of 2 backends fail the check, and as none would be left, get packets all the same: [2001:db8::1]:80 (connection refused)"},
		"many are down": {request(t, "health-check", "tcp"), slices(slice("a", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.8")), []string{"192.0.2.8:80"},
			[]string{"192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80", "192.0.2.4:80", "192.0.2.5:80", "192.0.2.6:80", "192.0.2.7:80"},
			"False BackendsDown: 7 of 8 backends fail the check: 192.0.2.1:80 (connection refused); 192.0.2.2:80 (connection refused); 192.0.2.3:80 (connection refused); 192.0.2.4:80 (connection refused); 192.0.2.5:80 (connection refused); and 2 more"},
		"no such port": {request(t, "health-check", "tcp", "health-check-port", "https"), slices(slice("a", "192.0.2.1")), nil, nil, `False InvalidHealthCheck: EndpointSlice a: no port is called "https"`},
		"no such kind": {request(t, "health-check", "ping"), slices(slice("a", "192.0.2.1")), nil, nil, `False InvalidHealthCheck: annotation signpost.dev/health-check: "ping" is not one of http, https, tcp and grpc`},
	} {
		t.Run(name, func(t *testing.T) {
			s := &state{heard: time.Now()}
			s.set("uid", test.request, test.sources, nil)
			for _, at := range test.up {
				s.hear(at, 3, verdict.Up)
			}
			for _, at := range test.down {
				s.hear(at, 2, verdict.Down)
			}
			s.decide(3, time.Now())
			if diff := cmp.Diff(test.want, s.text()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKnownBackendsStayKnown: when others come and go; but not with another check,
// nor for a Service that was made anew.
func TestKnownBackendsStayKnown(t *testing.T) {
	tcp := request(t, "health-check", "tcp")
	s := &state{}
	s.set("uid", tcp, []*discoveryv1.EndpointSlice{slice("a", "192.0.2.1", "192.0.2.2")}, nil)
	s.hear("192.0.2.1:80", 2, verdict.Up)
	s.hear("192.0.2.2:80", 2, verdict.Down)
	s.decide(3, time.Now())
	states := func() map[string]verdict.State {
		out := map[string]verdict.State{}
		for at, b := range s.backends {
			out[at.String()] = b.opinion.State
		}
		return out
	}
	s.set("uid", tcp, []*discoveryv1.EndpointSlice{slice("a", "192.0.2.2"), slice("b", "192.0.2.1", "192.0.2.3")}, nil)
	if diff := cmp.Diff(map[string]verdict.State{"192.0.2.1:80": verdict.Up, "192.0.2.2:80": verdict.Down, "192.0.2.3:80": verdict.Unknown}, states()); diff != "" {
		t.Error(diff)
	}
	before := s.backends[netip.MustParseAddrPort("192.0.2.1:80")].key
	s.set("uid", request(t, "health-check", "tcp", "health-check-failures", "5"), []*discoveryv1.EndpointSlice{slice("a", "192.0.2.1")}, nil)
	if got := s.backends[netip.MustParseAddrPort("192.0.2.1:80")]; got.key == before || got.opinion.State != verdict.Unknown {
		t.Errorf("another check: %+v", got)
	}
}

// TestBeginsWithWhatIsPublished: one that is out stays out until a majority says
// that it works, and one that is in stays in.
func TestBeginsWithWhatIsPublished(t *testing.T) {
	s := &state{heard: time.Now()}
	s.set("uid", request(t, "health-check", "tcp"), []*discoveryv1.EndpointSlice{slice("a", "192.0.2.1", "192.0.2.2", "192.0.2.3")}, []*discoveryv1.EndpointSlice{slice("ours", "192.0.2.1", "-192.0.2.2")})
	s.decide(3, time.Now())
	want := map[netip.AddrPort]bool{netip.MustParseAddrPort("192.0.2.2:80"): true, netip.MustParseAddrPort("192.0.2.3:80"): true}
	if diff := cmp.Diff(want, s.failing(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("get nothing (-want +got):\n%s", diff)
	}
	s.hear("192.0.2.2:80", 1, verdict.Up)
	s.hear("192.0.2.1:80", 1, verdict.Down)
	s.decide(3, time.Now())
	if len(s.failing()) != 2 {
		t.Errorf("one of three is believed: %v", s.failing())
	}
	if !s.decide(3, time.Now().Add(time.Hour)) || len(s.failing()) != 0 {
		t.Errorf("nobody has said anything for an hour, and %v get nothing", s.failing())
	}
}
