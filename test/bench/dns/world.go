package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/apiserver"
)

const (
	namespace = "bench"
	hostName  = "node-0"
	zone      = "svc.cluster.local."
	// dnsAddr is the cluster IP of kube-dns.
	dnsAddr = "10.96.0.10"
	// externals are so many names of an upstream server.
	externals = 1000
	// inParallel is how many requests make the cluster.
	inParallel = 16
)

// world is Services in the API.
type world struct {
	client.Client
	names []string
	addrs []netip.Addr
}

func newWorld(ctx context.Context, server *apiserver.Server, services int) (*world, error) {
	config := server.Config()
	config.ContentType = runtime.ContentTypeProtobuf
	api, err := client.New(config, client.Options{})
	if err != nil {
		return nil, err
	}
	w := &world{Client: api, names: make([]string, services), addrs: make([]netip.Addr, services)}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: hostName}},
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns"},
			Spec:       corev1.ServiceSpec{ClusterIP: dnsAddr, Ports: []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}},
		},
	} {
		if err := w.Create(ctx, o); err != nil {
			return nil, err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	for i := range services {
		group.Go(func() error { return w.createService(ctx, i) })
	}
	return w, group.Wait()
}

func (w *world) createService(ctx context.Context, i int) (err error) {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("service-%d", i)},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if err := w.Create(ctx, s); err != nil {
		return err
	}
	w.names[i] = s.Name + "." + namespace + "." + zone
	if w.addrs[i], err = netip.ParseAddr(s.Spec.ClusterIP); err != nil {
		return err
	}
	return w.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: s.Name + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.200.%d.%d", i/250, i%250+1)}}},
	})
}

// mixes are the kinds of questions.
func (w *world) mixes() (order []string, mixes map[string][][]byte) {
	mixes = map[string][][]byte{}
	add := func(kind, name string, qtype uint16) {
		m := new(dns.Msg).SetQuestion(name, qtype)
		m.SetEdns0(1232, false)
		wire, err := m.Pack()
		if err != nil {
			panic(err) // of names that are made here
		}
		mixes[kind] = append(mixes[kind], wire)
	}
	for i, name := range w.names {
		add("A", name, dns.TypeA)
		add("AAAA", name, dns.TypeAAAA)
		add("SRV", "_http._tcp."+name, dns.TypeSRV)
		// What a search path asks on the way to names of others.
		add("NXDOMAIN", fmt.Sprintf("www%d.example.org.%s.%s", i%externals, namespace, zone), dns.TypeA)
	}
	for i := range externals {
		add("external, cached", fmt.Sprintf("www%d.example.org.", i), dns.TypeA)
	}
	for _, kind := range []string{"A", "AAAA", "NXDOMAIN", "SRV", "external, cached"} {
		share := map[string]int{"A": 4, "AAAA": 3, "NXDOMAIN": 2, "SRV": 1, "external, cached": 1}[kind]
		for range share {
			mixes["mixed"] = append(mixes["mixed"], mixes[kind][:min(externals, len(mixes[kind]))]...)
		}
	}
	return []string{"A", "AAAA", "SRV", "NXDOMAIN", "external, cached", "mixed"}, mixes
}

// serveUpstream answers for names of others at an address of the calling thread's
// namespace.
func serveUpstream(addr string) (*dns.Server, error) {
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.RecursionAvailable = true
		if q := r.Question[0]; q.Qtype == dns.TypeA && strings.HasSuffix(strings.ToLower(q.Name), ".example.org.") {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: net.IPv4(192, 0, 2, 1)}}
		}
		_ = w.WriteMsg(m)
	})
	s := &dns.Server{PacketConn: conn, Handler: handler}
	go func() { _ = s.ActivateAndServe() }()
	return s, nil
}
