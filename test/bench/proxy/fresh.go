package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/host"
)

const (
	// resolveLimit bounds the time until the name of a new Service is known.
	resolveLimit = time.Minute
	// resolvedEach is the pause between two questions for it.
	resolvedEach = 200 * time.Microsecond
)

// freshResult is what came of Services that were resolved and connected to as soon as
// they were created.
type freshResult struct {
	resolved, connected []time.Duration
	// early is how many could be resolved and not connected to.
	early int
}

// fresh creates Services, asks for the name of each until there is an address, and
// connects to that at once.
func (t *trial) fresh(ctx context.Context, n int) error {
	server, err := t.contender.names(ctx, t.Host)
	if err != nil {
		return err
	}
	var conn net.Conn
	if err := t.client()(func() (err error) {
		conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "udp", server.String())
		return err
	}); err != nil {
		return err
	}
	defer conn.Close()
	var r freshResult
	for i := range n {
		if err := t.freshOne(ctx, &dns.Conn{Conn: conn}, &r, i); err != nil {
			return err
		}
	}
	fmt.Printf("%s: %d Services created: resolved after p50 %v, p99 %v; resolved and not connectable %d; connected after p50 %v, p99 %v\n",
		t.contender.name, n, short(percentile(r.resolved, 0.5)), short(percentile(r.resolved, 0.99)), r.early, short(percentile(r.connected, 0.5)), short(percentile(r.connected, 0.99)))
	return nil
}

func (t *trial) freshOne(ctx context.Context, names *dns.Conn, r *freshResult, i int) error {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("fresh-", i)},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: servicePort}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: s.Name, Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(endpointPort)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   []discoveryv1.Endpoint{endpoint(i, false)},
	}
	if err := t.cluster.Create(ctx, slice); err != nil {
		return err
	}
	if err := t.cluster.Create(ctx, s); err != nil {
		return err
	}
	begin := time.Now()
	to, err := resolve(names, s.Name+"."+namespace+".svc.cluster.local.")
	if err != nil {
		return err
	}
	r.resolved = append(r.resolved, time.Since(begin))
	if err := t.client()(func() error { return r.connect(to) }); err != nil {
		return err
	}
	r.connected = append(r.connected, time.Since(begin))
	return errors.Join(t.cluster.Delete(ctx, s), t.cluster.Delete(ctx, slice))
}

// connect connects at once, and goes on until that is possible.
func (r *freshResult) connect(to netip.AddrPort) error {
	_, _, err := connect(to, true)
	if err == nil {
		return nil
	}
	r.early++
	for begin := time.Now(); err != nil; _, _, err = connect(to, true) {
		if time.Since(begin) > swapLimit {
			return err
		}
		time.Sleep(askedEach)
	}
	return nil
}

// resolve asks until the name has an address.
func resolve(c *dns.Conn, name string) (netip.AddrPort, error) {
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	for begin := time.Now(); time.Since(begin) < resolveLimit; time.Sleep(resolvedEach) {
		if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return netip.AddrPort{}, err
		}
		if err := c.WriteMsg(q); err != nil {
			continue // CoreDNS may say that it is ready a moment before it listens
		}
		m, err := c.ReadMsg()
		if err != nil {
			continue
		}
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				addr, _ := netip.AddrFromSlice(a.A.To4())
				return netip.AddrPortFrom(addr, servicePort), nil
			}
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%s has no address after %v", name, resolveLimit)
}

// ownNames is where Signpost answers on every node.
func ownNames(context.Context, *host.Host) (netip.AddrPort, error) {
	return netip.MustParseAddrPort("169.254.20.10:53"), nil
}

// withCoreDNS starts CoreDNS beside kube-proxy.
func withCoreDNS(ctx context.Context, h *host.Host) (netip.AddrPort, error) {
	program, args, err := h.CoreDNS("127.0.0.1:5300", host.CacheOthers) // nobody asks for other names
	if err != nil {
		return netip.AddrPort{}, err
	}
	if err := h.StartBeside(ctx, program, args...); err != nil {
		return netip.AddrPort{}, err
	}
	err = h.AwaitReady(ctx, "http://127.0.0.1:8181/ready", startLimit)
	return netip.AddrPortFrom(h.Node.Addrs[0], 53), err
}
