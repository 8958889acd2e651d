package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/model"
)

// fakeSnapshots is a watch cache that publishes what tests give it.
type fakeSnapshots struct {
	mu      sync.Mutex
	current *model.Snapshot
	subs    []chan struct{}
}

func (f *fakeSnapshots) Snapshot() *model.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

func (f *fakeSnapshots) Subscribe() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := make(chan struct{}, 1)
	f.subs = append(f.subs, c)
	return c
}

func (f *fakeSnapshots) publish(s *model.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = s
	for _, c := range f.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// cluster has a Service of each kind; dnsIPs are the cluster IPs of kube-dns.
func cluster(dnsIPs ...string) *model.Snapshot {
	var m model.ServiceMap
	changes := map[model.Name]*model.Service{}
	add := func(s *model.Service) { changes[s.Name] = s }
	http := []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}}
	add(&model.Service{Name: DefaultService(), ClusterIPs: parseAddrs(dnsIPs...)})
	add(&model.Service{Name: model.Name{Namespace: "default", Name: "web"}, ClusterIPs: parseAddrs("10.96.0.10", "fd00:96::10"), Ports: http})
	add(&model.Service{Name: model.Name{Namespace: "default", Name: "ext"}, ExternalName: "www.example.org"})
	add(&model.Service{Name: model.Name{Namespace: "default", Name: "extmissing"}, ExternalName: "missing.example.org"})
	big := model.EndpointGroup{Ports: []model.EndpointPort{{Name: "http", Protocol: model.TCP, Port: 8080}}}
	for i := range 200 {
		big.Endpoints = append(big.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), Ready: true})
	}
	add(&model.Service{Name: model.Name{Namespace: "default", Name: "big"}, Headless: true, Groups: []model.EndpointGroup{big}})
	return &model.Snapshot{Services: m.With(changes), Namespaces: map[string]struct{}{"default": {}, "kube-system": {}}}
}

func parseAddrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// newServer makes a Server that listens on a random port of 127.0.0.1 and knows
// cluster(), unless edit changes that. It does not run yet.
func newServer(tb testing.TB, edit func(*Options)) (*Server, *fakeSnapshots) {
	tb.Helper()
	snapshots := &fakeSnapshots{current: cluster()}
	o := Options{
		Snapshots: snapshots, TTL: 5 * time.Second, Pods: records.PodsInsecure,
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, AddressesAreLocal: true,
		Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&o)
	}
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s, snapshots
}

// run runs s until the test ends, or until the function that it returns is
// called.
func run(tb testing.TB, s *Server) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Error(err)
			}
		case <-time.After(10 * time.Second):
			tb.Error("the server did not stop within 10 s")
		}
	})
	tb.Cleanup(stop)
	return stop
}

// startServer is newServer and run, and returns the address once it is served.
func startServer(tb testing.TB, edit func(*Options)) (*Server, *fakeSnapshots, netip.AddrPort) {
	tb.Helper()
	s, snapshots := newServer(tb, edit)
	run(tb, s)
	waitFor(tb, "the server to listen", func() bool { return len(s.Serving()) > 0 })
	return s, snapshots, s.Serving()[0]
}

func waitFor(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("waited 10 s for %s", what)
		}
	}
}

// request is a question with an OPT record for datagrams of size, or none for 0.
func request(name string, qtype uint16, size uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	if size > 0 {
		m.SetEdns0(size, false)
	}
	return m
}

// counted returns the sum of those counters of c that have all of values among their labels'.
func counted(tb testing.TB, c prometheus.Collector, values ...string) (sum float64) {
	tb.Helper()
	out := make(chan prometheus.Metric)
	go func() { defer close(out); c.Collect(out) }()
	for m := range out {
		var d dto.Metric
		if err := m.Write(&d); err != nil {
			tb.Error(err)
			continue
		}
		has := func(value string) bool {
			return slices.ContainsFunc(d.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == value })
		}
		if !slices.ContainsFunc(values, func(v string) bool { return !has(v) }) {
			sum += d.GetCounter().GetValue()
		}
	}
	return sum
}

// ask sends r over network, udp or tcp, and returns the answer and its length.
func ask(tb testing.TB, network string, addr netip.AddrPort, r *dns.Msg) (*dns.Msg, int) {
	tb.Helper()
	conn, err := net.DialTimeout(network, addr.String(), 2*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	c := &dns.Conn{Conn: conn, UDPSize: 65535}
	if err := c.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	if err := c.WriteMsg(r); err != nil {
		tb.Fatal(err)
	}
	var h dns.Header
	wire, err := c.ReadMsgHeader(&h)
	if err != nil {
		tb.Fatalf("%s %s: %v", network, r.Question[0].Name, err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		tb.Fatal(err)
	}
	if m.Id != r.Id || !m.Response {
		tb.Fatalf("got %v as the answer to %v", m, r)
	}
	return m, len(wire)
}

// wantRecords compares the answer section with records as in a zone file.
func wantRecords(tb testing.TB, m *dns.Msg, rcode int, texts ...string) {
	tb.Helper()
	var got, want []string
	for _, rr := range m.Answer {
		got = append(got, rr.String())
	}
	for _, text := range texts {
		rr, err := dns.NewRR(text)
		if err != nil {
			tb.Fatal(err)
		}
		want = append(want, rr.String())
	}
	if m.Rcode != rcode || !slices.Equal(got, want) {
		tb.Errorf("got %s %q, want %s %q", rcodeText(m.Rcode), got, rcodeText(rcode), want)
	}
}

// upstream is a resolver on loopback that knows example.org.
type upstream struct {
	addr netip.AddrPort

	mu    sync.Mutex
	count map[string]int
	// hold, if set, keeps answers back until it is closed.
	hold chan struct{}
}

func startUpstream(tb testing.TB) *upstream {
	tb.Helper()
	udp, tcp := listenBoth(tb)
	u := &upstream{addr: udp.LocalAddr().(*net.UDPAddr).AddrPort(), count: map[string]int{}}
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: u}, {Listener: tcp, Handler: u}} {
		started, done := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { done <- server.ActivateAndServe() }()
		<-started
		tb.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-done); err != nil {
				tb.Error(err)
			}
		})
	}
	return u
}

func (u *upstream) option(o *Options) { o.Upstreams = []string{u.addr.String()} }

func (u *upstream) asked(name string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.count[name]
}

// listenBoth listens on the same port over UDP and TCP. The kernel chooses one that
// is free for UDP only, so it may take several attempts.
func listenBoth(tb testing.TB) (*net.UDPConn, *net.TCPListener) {
	tb.Helper()
	for attempt := 0; ; attempt++ {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			tb.Fatal(err)
		}
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(udp.LocalAddr().(*net.UDPAddr).AddrPort()))
		if err == nil {
			return udp, tcp
		}
		udp.Close()
		if attempt == 20 {
			tb.Fatal(err)
		}
	}
}

// holdAnswers keeps answers back until release is called, or the test ends. Call
// it after all that is to end before the server does.
func (u *upstream) holdAnswers(tb testing.TB) (release func()) {
	hold := make(chan struct{})
	u.mu.Lock()
	u.hold = hold
	u.mu.Unlock()
	release = sync.OnceFunc(func() { close(hold) })
	tb.Cleanup(release)
	return release
}

func (u *upstream) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	q := r.Question[0]
	q.Name = dns.CanonicalName(q.Name) // its case is random
	u.mu.Lock()
	u.count[q.Name]++
	hold := u.hold
	u.mu.Unlock()
	if hold != nil {
		<-hold
	}
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable, m.AuthenticatedData = true, true
	add := func(section *[]dns.RR, text string) {
		if rr, err := dns.NewRR(text); err == nil {
			*section = append(*section, rr)
		}
	}
	switch q.Name {
	case "www.example.org.":
		if q.Qtype == dns.TypeA {
			add(&m.Answer, "www.example.org. 60 IN A 192.0.2.1")
			break
		}
		add(&m.Ns, "example.org. 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 60")
	case "many.example.org.":
		for i := range 200 {
			add(&m.Answer, fmt.Sprintf("many.example.org. 60 IN A 192.0.2.%d", i))
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(dns.MinMsgSize)
		}
	case "1.0.0.10.in-addr.arpa.":
		add(&m.Answer, "1.0.0.10.in-addr.arpa. 60 IN PTR host.example.org.")
	case "broken.example.org.":
		m.Rcode = dns.RcodeServerFailure
	default:
		m.Rcode = dns.RcodeNameError
		zone := "."
		if dns.IsSubDomain("example.org.", q.Name) {
			zone = "example.org."
		}
		add(&m.Ns, zone+" 60 IN SOA ns.example.org. host.example.org. 1 2 3 4 60")
	}
	_ = w.WriteMsg(m)
}
