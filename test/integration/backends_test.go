//go:build integration

package integration

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/netlab"
)

// TestExternalBackends: what somebody writes into the Endpoints of a Service without
// selector is checked by TCP: packets and names follow the check, and when all
// fail, nothing is taken away.
func TestExternalBackends(t *testing.T) {
	n := startedNode(t, "client", "db-1", "db-2")
	servers := map[string]*netlab.Server{}
	up := func(pod string) {
		t.Helper()
		server, err := n.lab.Pod(pod).Serve("tcp", netip.AddrPortFrom(n.lab.Pod(pod).Addrs[0], 5432))
		if err != nil {
			t.Fatal(err)
		}
		servers[pod] = server
	}
	down := func(pod string) {
		t.Helper()
		if err := servers[pod].Close(); err != nil {
			t.Fatal(err)
		}
		delete(servers, pod)
	}
	t.Cleanup(func() {
		for pod := range servers {
			down(pod)
		}
	})
	up("db-1")
	up("db-2")
	checked := func(s *corev1.Service) {
		s.Spec.Selector, s.Spec.Ports[0].Name = nil, ""
		s.Annotations = map[string]string{"signpost.dev/health-check": "tcp", "signpost.dev/health-check-interval": "1s"}
	}
	svc := n.makeService("default", "db", checked)
	headless := n.makeService("default", "peers", func(s *corev1.Service) { checked(s); s.Spec.ClusterIP = corev1.ClusterIPNone })
	to := svc.Spec.ClusterIP + ":80"
	ips := []string{n.lab.Pod("db-1").Addrs[0].String(), n.lab.Pod("db-2").Addrs[0].String()}
	n.writeEndpoints("db", nil, "db-1", "db-2")
	n.writeEndpoints("peers", nil, "db-1", "db-2")
	n.eventually("both get packets", func() error { return n.answering("client", to, "db-1", "db-2") })
	n.eventually("both are in the name", n.resolvesToAll(headless.Name, ips...))
	n.eventually("both are known to work", func() error { return errors.Join(n.says("db", "AllHealthy"), n.says("peers", "AllHealthy")) })

	down("db-2")
	took := n.eventually("the one that fails its check gets nothing", func() error { return n.only("client", to, "db-1") })
	t.Logf("FIGURE a backend that refuses gets nothing %s later: an interval of 1 s, 3 failures, by one node", took.Round(time.Millisecond))
	n.eventually("and has no name", n.resolvesToAll(headless.Name, ips[0]))
	n.eventually("and its Service says so", func() error { return n.says("db", "BackendsDown") })
	up("db-2")
	took = n.eventually("it is back", func() error { return n.answering("client", to, "db-1", "db-2") })
	t.Logf("FIGURE it is back %s after it listens again", took.Round(time.Millisecond))

	down("db-1")
	n.eventually("the other one", func() error { return n.only("client", to, "db-2") })
	down("db-2")
	n.eventually("all fail", func() error { return n.says("db", "FailOpen") })
	n.eventually("all stay", n.resolvesToAll(headless.Name, ips...))
	up("db-1")
	n.eventually("one is back", func() error { return n.only("client", to, "db-1") })

	patch := []byte(`{"metadata":{"annotations":{"signpost.dev/health-check":null,"signpost.dev/health-check-interval":null}}}`)
	for _, name := range []string{"db", "peers"} {
		if _, err := n.api.CoreV1().Services("default").Patch(t.Context(), name, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	n.eventually("without annotation nothing is taken away", n.resolvesToAll(headless.Name, ips...))
	n.eventually("and nothing is said", func() error { return n.says("db", "") })
}

// only returns nil if no other pod gets anything: where another one refuses, a few
// connections in a row may come by it.
func (n *node) only(from, to, pod string) error {
	for range 6 {
		if err := n.answering(from, to, pod); err != nil {
			return err
		}
	}
	return nil
}

// says checks the reason of the condition of a Service of the namespace default.
func (n *node) says(service, want string) error {
	svc, err := n.api.CoreV1().Services("default").Get(n.t.Context(), service, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range svc.Status.Conditions {
		if c.Type == "signpost.dev/BackendsHealthy" {
			if c.Reason != want {
				return fmt.Errorf("%s: %s, want %s", c.Reason, c.Message, want)
			}
			return nil
		}
	}
	if want != "" {
		return errors.New("there is no condition")
	}
	return nil
}

// TestBackendsByName: the addresses of names, which are found by the servers of the
// configuration.
func TestBackendsByName(t *testing.T) {
	n := newNode(t, "client", "db-1", "db-2")
	n.makeNode()
	zone := newZone(t, n.lab.Pod("client"))
	zone.set("db.example.com.", n.lab.Pod("db-1").Addrs[0])
	n.upstream(zone.at)
	n.start()
	n.eventually("the daemon is ready", n.ready)
	for _, pod := range []string{"db-1", "db-2"} {
		server, err := n.lab.Pod(pod).Serve("tcp", netip.AddrPortFrom(n.lab.Pod(pod).Addrs[0], 5432))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
	}
	svc := n.makeService("default", "db", func(s *corev1.Service) {
		s.Spec.Selector, s.Spec.Ports[0].TargetPort.Type, s.Spec.Ports[0].TargetPort.IntVal = nil, 0, 5432
		s.Annotations = map[string]string{"signpost.dev/backend-names": "db.example.com", "signpost.dev/health-check": "tcp"}
	})
	to := svc.Spec.ClusterIP + ":80"
	took := n.eventually("what the name stands for answers", func() error { return n.answering("client", to, "db-1") })
	t.Logf("FIGURE a backend by name gets packets %s after its Service was made", took.Round(time.Millisecond))
	zone.set("db.example.com.", n.lab.Pod("db-1").Addrs[0], n.lab.Pod("db-2").Addrs[0])
	n.eventually("it stands for two", func() error { return n.answering("client", to, "db-1", "db-2") })
	zone.set("db.example.com.")
	n.eventually("that it stands for none is said", func() error { return n.says("db", "NamesNotResolved") })
	if err := n.answering("client", to, "db-1", "db-2"); err != nil {
		t.Error(err)
	}
}

// upstream puts a name server into the node's resolv.conf, which has a port of 53.
func (n *node) upstream(at netip.Addr) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, "resolv.conf"), []byte("nameserver "+at.String()+"\n"), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// zone is a name server in a namespace.
type zone struct {
	at netip.Addr
	mu sync.Mutex
	// addresses by name, with final dot.
	addresses map[string][]netip.Addr
}

func newZone(t *testing.T, in *netlab.Namespace) *zone {
	t.Helper()
	z := &zone{at: in.Addrs[0], addresses: map[string][]netip.Addr{}}
	var conn net.PacketConn
	if err := in.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", netip.AddrPortFrom(z.at, 53).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: z}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ActivateAndServe() // fails when the socket is closed
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return z
}

func (z *zone) set(name string, addresses ...netip.Addr) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addresses[name] = addresses
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	reply := new(dns.Msg)
	reply.SetReply(q)
	reply.RecursionAvailable = true
	for _, a := range z.addresses[strings.ToLower(q.Question[0].Name)] {
		if q.Question[0].Qtype == dns.TypeA {
			reply.Answer = append(reply.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: a.AsSlice()})
		}
	}
	_ = w.WriteMsg(reply)
}

// TestBackendsByThreeNodes has three daemons check backends by HTTP: one that
// cannot reach a backend is not believed, two are; and what is published outlives
// the leader.
func TestBackendsByThreeNodes(t *testing.T) {
	f := newFleet(t, "leaderElection: {leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 500ms}\n", "b1", "b2", "b3")
	all := []string{"b1", "b2", "b3"}
	var health sync.Map // status by address
	at := map[string]string{}
	for _, name := range all {
		m := f.members[name]
		at[name] = m.ns.Addrs[0].String()
		serveHTTP(t, m.ns, 8080, func(w http.ResponseWriter, r *http.Request) {
			if status, bad := health.Load(name); bad && r.URL.Path == "/healthz" {
				w.WriteHeader(status.(int))
			}
		})
	}
	f.makeChecked(at["b1"], at["b2"], at["b3"])
	f.untilPublished("all are checked and work", "AllHealthy", "", at["b1"], at["b2"], at["b3"])

	health.Store("b2", 503)
	took := f.untilPublished("one says that it does not work", "BackendsDown", at["b2"]+":8080 (HTTP status 503)", at["b1"], at["b3"])
	t.Logf("FIGURE out %s after it began to fail: an interval of 1 s, 3 failures, by three nodes", took.Round(10*time.Millisecond))
	health.Delete("b2")
	took = f.untilPublished("it works again", "AllHealthy", "", at["b1"], at["b2"], at["b3"])
	t.Logf("FIGURE back %s later: 2 successes", took.Round(10*time.Millisecond))

	leader := f.leader()
	others := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == leader.name })
	t.Logf("%s, which does not lead, cannot reach the backend on %s", others[0], leader.name)
	f.cut(others[0], at[leader.name])
	for range 60 {
		time.Sleep(100 * time.Millisecond)
		if got := f.working(); !slices.Equal(got, []string{at["b1"], at["b2"], at["b3"]}) {
			t.Fatalf("one of three is believed: %v work", got)
		}
	}
	f.mend(others[0], at[leader.name])

	health.Store("b3", 500)
	f.untilPublished("another one does not work", "BackendsDown", at["b3"]+":8080 (HTTP status 500)", at["b1"], at["b2"])
	t.Logf("%s, which leads, ends", leader.name)
	leader.stop()
	for began := time.Now(); time.Since(began) < 8*time.Second; time.Sleep(50 * time.Millisecond) {
		if got := f.working(); !slices.Equal(got, []string{at["b1"], at["b2"]}) {
			t.Fatalf("%s after the leader ended %v work", time.Since(began), got)
		}
	}
	health.Delete("b3")
	f.untilPublished("it works again, as two nodes find", "AllHealthy", "", at["b1"], at["b2"], at["b3"])
}

func serveHTTP(t *testing.T, in *netlab.Namespace, port uint16, handle http.HandlerFunc) {
	t.Helper()
	var l net.Listener
	if err := in.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(in.Addrs[0], port).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handle}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // fails when it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// makeChecked makes the Service "ext" with these backends.
func (f *fleet) makeChecked(addresses ...string) {
	f.t.Helper()
	ctx := f.t.Context()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "ext", Annotations: map[string]string{
			"signpost.dev/health-check": "http", "signpost.dev/health-check-path": "/healthz", "signpost.dev/health-check-interval": "1s", "signpost.dev/health-check-timeout": "500ms"}},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if _, err := f.api.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "by-hand", Labels: map[string]string{discoveryv1.LabelServiceName: "ext"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for _, a := range addresses {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	if _, err := f.api.DiscoveryV1().EndpointSlices("default").Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

// working returns the backends of "ext" that get packets.
func (f *fleet) working() []string {
	f.t.Helper()
	list, err := f.api.DiscoveryV1().EndpointSlices("default").List(f.t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=ext," + discoveryv1.LabelManagedBy + "=external-backends.signpost.dev"})
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready {
				out = append(out, e.Addresses[0])
			}
		}
	}
	slices.Sort(out)
	return out
}

// untilPublished waits until exactly these backends get packets, and the Service
// gives that reason.
func (f *fleet) untilPublished(what, reason, message string, want ...string) time.Duration {
	f.t.Helper()
	began := time.Now()
	var took time.Duration
	for {
		got := f.working()
		says := ""
		svc, err := f.api.CoreV1().Services("default").Get(f.t.Context(), "ext", metav1.GetOptions{})
		if err != nil {
			f.t.Fatal(err)
		}
		for _, c := range svc.Status.Conditions {
			if c.Type == "signpost.dev/BackendsHealthy" {
				says = c.Reason + ": " + c.Message
			}
		}
		if slices.Equal(got, want) {
			if took == 0 {
				took = time.Since(began)
			}
			if strings.HasPrefix(says, reason+": ") && strings.HasSuffix(says, message) {
				f.t.Logf("%6.1f s until %s", took.Seconds(), what)
				return took
			}
		}
		if time.Since(began) > 40*time.Second {
			f.t.Fatalf("%s: working are %v, want %v; %s", what, got, want, says)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// cut keeps a node from reaching an address, and mend lets it.
func (f *fleet) cut(node, address string) {
	f.t.Helper()
	if _, err := f.members[node].ns.Command(f.t.Context(), "", "ip", "route", "add", "unreachable", address+"/32"); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) mend(node, address string) {
	f.t.Helper()
	if _, err := f.members[node].ns.Command(f.t.Context(), "", "ip", "route", "del", "unreachable", address+"/32"); err != nil {
		f.t.Fatal(err)
	}
}
