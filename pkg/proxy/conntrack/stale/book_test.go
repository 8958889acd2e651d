package stale

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// start is any moment.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is a Book with the Services that it was told of.
type world struct {
	t    *testing.T
	book *Book
	snap model.Snapshot
	now  time.Time
}

// newWorld returns a world whose look at the start is over.
func newWorld(t *testing.T, services ...*model.Service) *world {
	w := &world{t: t, book: New(ruleset.IPv4, Node{LocalhostNodePorts: true}), now: start}
	w.snap.Node.Name = "here"
	w.learn(services...)
	w.pass(time.Hour)
	if next := w.book.Next(); !next.IsZero() {
		t.Fatalf("after the start there is something to do at %s", next)
	}
	return w
}

// learn makes a change; a Service without ports is deleted.
func (w *world) learn(services ...*model.Service) {
	changes := map[model.Name]*model.Service{}
	for _, s := range services {
		if changes[s.Name] = s; len(s.Ports) == 0 {
			changes[s.Name] = nil
		}
	}
	w.snap.Services = w.snap.Services.With(changes)
	w.book.Learn(&w.snap, &w.snap.Services, w.now)
}

// pass lets time pass, and does what is due.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for next := w.book.Next(); !next.IsZero() && !next.After(end); next = w.book.Next() {
		if next.After(w.now) {
			w.now = next
		}
		done := false
		for _, k := range Kinds() {
			if l := w.book.Look(k, w.now); l != nil {
				w.book.Done(l)
				done = true
			}
		}
		if !done {
			w.t.Fatalf("something is due at %s, but nothing to look for", next)
		}
	}
	w.now = end
}

// cut returns which flows are to be cut by now. Each must pass the filter.
func (w *world) cut(flows ...string) []string {
	w.t.Helper()
	var out []string
	for _, k := range Kinds() {
		l := w.book.Look(k, w.now)
		if l == nil {
			continue
		}
		for _, text := range flows {
			f := flow(text)
			if !l.Stale(f, isLocal) {
				continue
			}
			out = append(out, text)
			if !passes(l.Filter(), f) {
				w.t.Errorf("%q is stale but does not pass the filter %+v", text, l.Filter())
			}
		}
	}
	return out
}

func isLocal(a netip.Addr) bool { return a == addr("192.168.1.10") || a.IsLoopback() }

// passes does what the kernel does.
func passes(want Filter, f Flow) bool {
	switch {
	case want.Protocol != 0 && want.Protocol != f.Protocol,
		want.To.IsValid() && want.To != f.To.Addr(),
		want.ToPort != 0 && want.ToPort != f.To.Port(),
		want.Server.IsValid() && want.Server != f.Server,
		want.Translated && f.To == f.Server,
		want.Unanswered && f.Answered,
		want.Unassured && !f.HalfOpen:
		return false
	}
	return true
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// flow reads "udp 10.96.0.1:53 10.0.1.1:5353 answered half"; without a server it was
// not translated.
func flow(text string) Flow {
	words := strings.Fields(text)
	f := Flow{Protocol: map[string]Protocol{"tcp": TCP, "udp": UDP, "sctp": SCTP}[words[0]], To: netip.MustParseAddrPort(words[1])}
	f.Server = f.To
	for _, w := range words[2:] {
		switch w {
		case "answered":
			f.Answered = true
		case "half":
			f.HalfOpen = true
		default:
			f.Server = netip.MustParseAddrPort(w)
		}
	}
	return f
}

// service returns a Service default/<name> at ip, with port 53 of all protocols and these
// endpoints at 5353. "10.0.1.1/serving,terminating" is one with these conditions; none are
// ready and serving.
func service(name, ip string, nodePort uint16, endpoints ...string) *model.Service {
	s := &model.Service{Name: model.Name{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{addr(ip)}}
	group := model.EndpointGroup{}
	for _, p := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
		s.Ports = append(s.Ports, model.ServicePort{Name: string(p), Protocol: p, Port: 53, NodePort: nodePort})
		group.Ports = append(group.Ports, model.EndpointPort{Name: string(p), Protocol: p, Port: 5353})
	}
	for _, e := range endpoints {
		ip, conditions, said := strings.Cut(e, "/")
		group.Endpoints = append(group.Endpoints, model.Endpoint{
			Addr: addr(ip), Ready: !said || strings.Contains(conditions, "ready"),
			Serving: !said || strings.Contains(conditions, "serving"), Terminating: strings.Contains(conditions, "terminating"),
		})
	}
	s.Groups = []model.EndpointGroup{group}
	return s
}

func deleted(name string) *model.Service {
	return &model.Service{Name: model.Name{Namespace: "default", Name: name}}
}

func with(s *model.Service, change func(*model.Service)) *model.Service {
	change(s)
	return s
}

// TestDatagrams goes through what can happen to a Service, and says which flows of
// UDP it cuts at once.
func TestDatagrams(t *testing.T) {
	const ip, node = "10.96.0.1", 30053
	flows := []string{
		"udp 10.96.0.1:53 10.0.1.1:5353 answered", // cluster IP to a
		"udp 10.96.0.1:53 10.0.1.2:5353",          // to b
		"udp 192.168.1.10:30053 10.0.1.1:5353",    // node port to a
		"udp 127.0.0.1:30053 10.0.1.1:5353",       // at localhost
		"udp 10.96.0.1:53",                        // begun while there was nobody
		"udp 192.168.1.10:30053",                  // the same at the node port
		// never:
		"udp 10.96.0.1:53 answered",       // somebody is there
		"udp 192.168.1.10:30053 answered", // a process of the node
		"udp 203.0.113.1:30053",           // elsewhere, with the number of the node port
		"udp 203.0.113.1:30053 10.0.1.1:5353",
		"udp 10.96.0.1:54 10.0.1.1:5353", // another port
		"udp 10.96.0.1:53 10.0.1.1:9",    // another port of the endpoint
		"udp 10.96.0.1:53 10.0.9.9:5353", // nobody whom we know
		"udp 10.0.1.1:5353",              // the pod itself
		"tcp 10.96.0.1:53 10.0.1.1:5353 half",
		"udp 198.51.100.1:53 10.0.1.1:5353",
	}
	toA, toB := []string{flows[0], flows[2], flows[3]}, []string{flows[1]}
	black := []string{flows[4], flows[5]}
	for _, tt := range []struct {
		what string
		was  *model.Service
		is   *model.Service
		want []string
	}{
		{"one endpoint of two goes", service("s", ip, node, "10.0.1.1", "10.0.1.2"), service("s", ip, node, "10.0.1.2"), toA},
		{"one for the other", service("s", ip, node, "10.0.1.1"), service("s", ip, node, "10.0.1.2"), toA},
		{"the last one goes", service("s", ip, node, "10.0.1.1"), service("s", ip, node), toA},
		{"the Service goes", service("s", ip, node, "10.0.1.1", "10.0.1.2"), deleted("s"), append(toA[:1:1], flows[1], flows[2], flows[3])},
		{"it becomes headless", service("s", ip, node, "10.0.1.2"), with(service("s", ip, node, "10.0.1.2"), func(s *model.Service) { s.Headless = true }), toB},
		{"the first one comes", service("s", ip, node), service("s", ip, node, "10.0.1.2"), black},
		{"the Service comes", deleted("s"), service("s", ip, node, "10.0.1.2"), black},
		{"another one comes", service("s", ip, node, "10.0.1.2"), service("s", ip, node, "10.0.1.1", "10.0.1.2"), nil},
		{"it terminates but serves", service("s", ip, node, "10.0.1.1"), service("s", ip, node, "10.0.1.1/serving,terminating", "10.0.1.2"), nil},
		{"it terminates and serves no more", service("s", ip, node, "10.0.1.1"), service("s", ip, node, "10.0.1.1/terminating", "10.0.1.2"), toA},
		{"it is not ready any more", service("s", ip, node, "10.0.1.1"), service("s", ip, node, "10.0.1.1/no", "10.0.1.2"), toA},
		{"not ready, but published all the same", service("s", ip, node, "10.0.1.1"), service("s", ip, node, "10.0.1.1/ready", "10.0.1.2"), nil},
		{"it never was", service("s", ip, node, "10.0.1.1/no", "10.0.1.2"), service("s", ip, node, "10.0.1.2"), nil},
		{"the node port goes", service("s", ip, node, "10.0.1.1"), service("s", ip, 0, "10.0.1.1"), toA[1:]},
		{"the node port is another", service("s", ip, 30054, "10.0.1.2"), service("s", ip, node, "10.0.1.2"), black[1:]},
		{"the port goes", service("s", ip, 0, "10.0.1.1"), with(service("s", ip, 0, "10.0.1.1"), func(s *model.Service) { s.Ports = s.Ports[:1] }), toA[:1]},
		{"an external address goes", with(service("s", ip, 0, "10.0.1.1"), func(s *model.Service) { s.ExternalIPs = []netip.Addr{addr("198.51.100.1")} }),
			service("s", ip, 0, "10.0.1.1"), []string{"udp 198.51.100.1:53 10.0.1.1:5353"}},
		{"a load balancer's address goes", with(service("s", ip, 0, "10.0.1.1"), func(s *model.Service) { s.LoadBalancerIPs = []netip.Addr{addr("198.51.100.1")} }),
			service("s", ip, 0, "10.0.1.1"), []string{"udp 198.51.100.1:53 10.0.1.1:5353"}},
		{"to another proxy", service("s", ip, node, "10.0.1.1"), with(service("s", ip, node), func(s *model.Service) { s.OtherProxy = true }), nil},
		{"from another proxy", with(service("s", ip, node), func(s *model.Service) { s.OtherProxy = true }), service("s", ip, node, "10.0.1.2"), black},
		{"other things change", service("s", ip, node, "10.0.1.1"), with(service("s", ip, node, "10.0.1.1"), func(s *model.Service) { s.UID = "2" }), nil},
	} {
		t.Run(tt.what, func(t *testing.T) {
			w := newWorld(t, tt.was, service("other", "10.96.0.2", 30055, "10.0.1.1"))
			w.learn(tt.is)
			if diff := cmp.Diff(tt.want, w.cut(flows...), cmpopts.EquateEmpty(), cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("cut (-want +got):\n%s", diff)
			}
			w.pass(time.Second)
			if next := w.book.Next(); !next.IsZero() {
				t.Errorf("there is still something to do at %s", next)
			}
		})
	}
}

// TestHandshakes holds that half-open connections to what is gone are cut, but
// not before they had time to complete, and established ones never.
func TestHandshakes(t *testing.T) {
	flows := []string{
		"tcp 10.96.0.1:53 10.0.1.1:5353 half",
		"tcp 10.96.0.1:53 10.0.1.1:5353 half answered",
		"sctp 10.96.0.1:53 10.0.1.1:5353 half",
		"tcp 10.96.0.1:53 10.0.1.1:5353 answered",
		"sctp 10.96.0.1:53 10.0.1.1:5353 answered",
		"tcp 10.96.0.1:53 10.0.1.2:5353 half",
		"tcp 10.96.0.1:80 10.0.1.1:5353 half",
		"tcp 10.96.0.1:53 half",
	}
	w := newWorld(t, service("s", "10.96.0.1", 0, "10.0.1.1", "10.0.1.2"))
	w.learn(service("s", "10.96.0.1", 0, "10.0.1.2"))
	w.pass(499 * time.Millisecond)
	if got := w.cut(flows...); got != nil {
		t.Errorf("at once: %v", got)
	}
	w.now = w.now.Add(time.Millisecond)
	if diff := cmp.Diff(flows[:3], w.cut(flows...)); diff != "" {
		t.Errorf("later (-want +got):\n%s", diff)
	}
	w.pass(time.Second)
	w.learn(service("s", "10.96.0.1", 0))
	w.pass(time.Second)
	w.learn(service("s", "10.96.0.1", 0, "10.0.1.2"))
	w.pass(200 * time.Millisecond)
	w.now = w.now.Add(time.Second)
	if diff := cmp.Diff(flows[7:], w.cut(flows...)); diff != "" {
		t.Errorf("begun while there was nobody (-want +got):\n%s", diff)
	}
}

// TestSecondLook holds that flows which are entered late are found, too, and
// that a change in between is not forgotten.
func TestSecondLook(t *testing.T) {
	a, b := "udp 10.96.0.1:53 10.0.1.1:5353", "udp 10.96.0.1:53 10.0.1.2:5353"
	w := newWorld(t, service("s", "10.96.0.1", 0, "10.0.1.1", "10.0.1.2", "10.0.1.3"))
	w.learn(service("s", "10.96.0.1", 0, "10.0.1.2", "10.0.1.3"))
	w.pass(30 * time.Millisecond)
	w.learn(service("s", "10.96.0.1", 0, "10.0.1.3"))
	if diff := cmp.Diff([]string{a, b}, w.cut(a, b)); diff != "" {
		t.Errorf("two changes (-want +got):\n%s", diff)
	}
	w.pass(49 * time.Millisecond)
	w.now = w.now.Add(time.Millisecond)
	if diff := cmp.Diff([]string{a, b}, w.cut(a, b)); diff != "" {
		t.Errorf("second look (-want +got):\n%s", diff)
	}
	w.learn(service("s", "10.96.0.1", 0, "10.0.1.1", "10.0.1.3"))
	if diff := cmp.Diff([]string{b}, w.cut(a, b)); diff != "" {
		t.Errorf("one is back (-want +got):\n%s", diff)
	}
	w.pass(time.Hour)
	if got := w.cut(a, b); got != nil {
		t.Errorf("an hour later: %v", got)
	}
}

// TestAddressReuse: an address that two Services claim, together or one after the
// other, is judged by who has it now.
func TestAddressReuse(t *testing.T) {
	a, b := "udp 10.96.0.1:53 10.0.1.1:5353", "udp 10.96.0.1:53 10.0.1.2:5353"
	w := newWorld(t, service("one", "10.96.0.1", 0, "10.0.1.1"))
	w.learn(deleted("one"), service("two", "10.96.0.1", 0, "10.0.1.2"))
	if diff := cmp.Diff([]string{a}, w.cut(a, b)); diff != "" {
		t.Errorf("at once (-want +got):\n%s", diff)
	}
	w.pass(time.Hour)
	w.learn(service("one", "10.96.0.1", 0, "10.0.1.1"))
	if got := w.cut(a, b); got != nil {
		t.Errorf("both: %v", got)
	}
	w.learn(deleted("two"))
	if diff := cmp.Diff([]string{b}, w.cut(a, b)); diff != "" {
		t.Errorf("one of them goes (-want +got):\n%s", diff)
	}
}

// TestStart holds that a process that starts leaves what is right, and cuts what
// went wrong while there was none.
func TestStart(t *testing.T) {
	cuts := []string{
		"udp 10.96.0.1:53 10.0.1.9:5353 answered", // an endpoint that is gone
		"udp 192.168.1.10:30053 10.0.1.9:5353",
		"udp 10.96.0.1:53",                // begun while there was nobody
		"udp 10.96.0.77:53 10.0.1.9:5353", // a Service that is gone
		"udp 10.96.0.1:54 10.0.1.1:5353",  // a port that is gone
	}
	stays := []string{
		"udp 10.96.0.1:53 10.0.1.1:5353 answered", "udp 10.96.0.1:53 10.0.1.2:5353", "udp 192.168.1.10:30053 10.0.1.1:5353",
		"udp 10.96.0.1:53 answered", "udp 10.96.0.77:53", "udp 10.96.0.3:53", "udp 203.0.113.1:30053 10.0.1.9:5353",
		"udp 203.0.113.1:53 10.0.1.9:5353", "udp 10.96.0.4:53 10.0.1.9:5353", "udp 10.96.0.5:53 10.0.1.9:5353",
	}
	late := []string{"tcp 10.96.0.1:53 10.0.1.9:5353 half", "sctp 10.96.0.77:53 10.0.1.9:5353 half"}
	b := New(ruleset.IPv4, Node{})
	w := &world{t: t, book: b, now: start}
	refused := service("refused", "10.96.0.5", 0, "10.0.1.1")
	w.snap = model.Snapshot{ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}}
	w.snap.Services = w.snap.Services.With(map[model.Name]*model.Service{refused.Name: refused})
	var programmed model.ServiceMap
	for _, s := range []*model.Service{
		service("s", "10.96.0.1", 30053, "10.0.1.1", "10.0.1.2/serving,terminating"), service("empty", "10.96.0.3", 0),
		with(service("other", "10.96.0.4", 0), func(s *model.Service) { s.OtherProxy = true }),
	} {
		w.snap.Services = w.snap.Services.With(map[model.Name]*model.Service{s.Name: s})
		programmed = programmed.With(map[model.Name]*model.Service{s.Name: s})
	}
	b.Learn(&w.snap, &programmed, w.now)
	all := append(append(append([]string{}, cuts...), stays...), late...)
	if diff := cmp.Diff(cuts, w.cut(all...)); diff != "" {
		t.Errorf("at the start (-want +got):\n%s", diff)
	}
	w.pass(100 * time.Millisecond)
	if got := w.cut(all...); got != nil {
		t.Errorf("soon after: %v", got)
	}
	w.pass(390 * time.Millisecond)
	w.now = w.now.Add(10 * time.Millisecond)
	if diff := cmp.Diff(late, w.cut(all...)); diff != "" {
		t.Errorf("handshakes (-want +got):\n%s", diff)
	}
	w.pass(time.Hour)
	if got, next := w.cut(all...), b.Next(); got != nil || !next.IsZero() {
		t.Errorf("an hour later: %v, %s", got, next)
	}
}

// TestNodePortAddresses holds that only flows to addresses with node ports are ours.
func TestNodePortAddresses(t *testing.T) {
	flows := []string{"udp 192.168.1.10:30053 10.0.1.1:5353", "udp 127.0.0.1:30053 10.0.1.1:5353"}
	for _, tt := range []struct {
		node Node
		want []string
	}{
		{Node{}, flows[:1]},
		{Node{LocalhostNodePorts: true}, flows},
		{Node{NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("192.168.2.0/24")}}, nil},
		{Node{NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("192.168.2.0/24"), netip.MustParsePrefix("192.168.1.0/24")}}, flows[:1]},
		{Node{NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("fd00::/8")}}, flows[:1]},
		{Node{LocalhostNodePorts: true, NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, flows[1:]},
	} {
		w := newWorld(t, service("s", "10.96.0.1", 30053, "10.0.1.1"))
		w.book.node = tt.node
		w.learn(deleted("s"))
		if diff := cmp.Diff(tt.want, w.cut(flows...)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.node, diff)
		}
	}
}

// TestFilterIsNarrow holds what the kernel is asked for.
func TestFilterIsNarrow(t *testing.T) {
	two := []string{"10.0.1.1", "10.0.1.2"}
	for _, tt := range []struct {
		what    string
		was, is []*model.Service
		want    Filter
	}{
		{"one endpoint", []*model.Service{service("s", "10.96.0.1", 0, two...)}, []*model.Service{service("s", "10.96.0.1", 0, two[1])},
			Filter{Protocol: UDP, To: addr("10.96.0.1"), ToPort: 53, Server: netip.MustParseAddrPort("10.0.1.1:5353"), Translated: true}},
		{"with a node port", []*model.Service{service("s", "10.96.0.1", 30053, two...)}, []*model.Service{service("s", "10.96.0.1", 30053, two[1])},
			Filter{Protocol: UDP, Server: netip.MustParseAddrPort("10.0.1.1:5353"), Translated: true}},
		{"all endpoints", []*model.Service{service("s", "10.96.0.1", 0, two...)}, []*model.Service{service("s", "10.96.0.1", 0)},
			Filter{Protocol: UDP, To: addr("10.96.0.1"), ToPort: 53, Translated: true}},
		{"the first", []*model.Service{service("s", "10.96.0.1", 0)}, []*model.Service{service("s", "10.96.0.1", 0, two...)},
			Filter{Protocol: UDP, To: addr("10.96.0.1"), ToPort: 53, Unanswered: true}},
		{"two Services", []*model.Service{service("s", "10.96.0.1", 0, two[0]), service("t", "10.96.0.2", 0)},
			[]*model.Service{service("s", "10.96.0.1", 0), service("t", "10.96.0.2", 0, two[1])}, Filter{Protocol: UDP, ToPort: 53}},
	} {
		w := newWorld(t, tt.was...)
		w.learn(tt.is...)
		if diff := cmp.Diff(tt.want, w.book.Look(Datagrams, w.now).Filter(), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.what, diff)
		}
	}
}

// TestAnyOrder runs random changes, and holds that at each moment what the last of
// them made stale has been cut, that nothing else has, and that all that is stale passes the filter.
// It keeps the flows that a kernel would have in a table of its own.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t)
		table := map[string]bool{}
		for range 200 {
			var changes []*model.Service
			for range rng.IntN(3) {
				i := rng.IntN(4)
				if rng.IntN(4) == 0 {
					changes = append(changes, deleted(fmt.Sprint("s", i)))
					continue
				}
				var endpoints []string
				for e := range 4 {
					if rng.IntN(2) == 0 {
						endpoints = append(endpoints, fmt.Sprint("10.0.1.", e+1, []string{"", "/serving,terminating", "/no"}[rng.IntN(3)]))
					}
				}
				// Some share a cluster IP, which can be seen while one goes and the other comes.
				changes = append(changes, service(fmt.Sprint("s", i), fmt.Sprint("10.96.0.", i/2), uint16(rng.IntN(2)*(30000+i)), endpoints...))
			}
			w.learn(changes...)
			for text := range table {
				if len(w.cut(text)) > 0 {
					delete(table, text)
				}
			}
			w.pass(time.Duration(rng.IntN(60)) * time.Millisecond)
			for text := range table {
				if f := flow(text); !w.valid(f) {
					t.Fatalf("seed %d: %q is left, but the Service is not", seed, text)
				}
			}
			for f := range w.book.claims {
				for e := range w.book.serving(f, known{}) {
					if to := f.Addr; f.Protocol == UDP {
						if !to.IsValid() {
							to = addr("192.168.1.10")
						}
						table[fmt.Sprint("udp ", netip.AddrPortFrom(to, f.Port), " ", e)] = true
					}
				}
			}
		}
	}
}

// valid reports whether any Service sends, or would still send, such a flow.
func (w *world) valid(f Flow) bool {
	for _, s := range w.snap.Services.All() {
		for _, p := range s.Ports {
			front := f.To == netip.AddrPortFrom(s.ClusterIPs[0], p.Port) || isLocal(f.To.Addr()) && f.To.Port() == p.NodePort
			for _, target := range s.Targets(p, f.To.Addr()) {
				if front && p.Protocol == model.UDP && target.AddrPort == f.Server && (target.Endpoint.Ready || target.Endpoint.Serving) {
					return true
				}
			}
		}
	}
	return false
}
