package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/host"
)

const (
	// bigName is a headless Service of bigSlices × inSlice endpoints.
	bigName   = "big"
	bigSlices = 50
	inSlice   = 100
	// askedEach is the pause between two questions for what has changed.
	askedEach = 200 * time.Microsecond
	// rightLimit bounds the time until the answer is right.
	rightLimit = time.Minute
)

// change is a write, and how to know of an answer that it has come to pass.
type change struct {
	write func(context.Context) error
	name  string
	right func(*dns.Msg) bool
}

// kindOfChange makes the i-th change of its kind.
type kindOfChange struct {
	name string
	make func(i int) change
}

// changes prints how long it takes from a write to the API until the right answer.
func (c *contender) changes(ctx context.Context, server *apiserver.Server, w *world, n int) error {
	return c.onNode(ctx, server, w, func(h *host.Host) error {
		for _, kind := range w.kindsOfChange() {
			var fromBegin, fromEnd []time.Duration
			for i := range n {
				begin, end, err := c.follow(ctx, h, kind.make(i))
				if err != nil {
					return fmt.Errorf("%s: %w", kind.name, err)
				}
				fromBegin, fromEnd = append(fromBegin, begin), append(fromEnd, end)
			}
			p50, p99 := percentiles(fromEnd)
			begin50, begin99 := percentiles(fromBegin)
			fmt.Printf("| %s | %s | %d | %v | %v | %v | %v |\n", c.name, kind.name, n, p50, p99, begin50, begin99)
		}
		return nil
	})
}

func percentiles(d []time.Duration) (p50, p99 time.Duration) {
	slices.Sort(d)
	at := func(share float64) time.Duration {
		return d[min(len(d)-1, int(share*float64(len(d))))].Round(10 * time.Microsecond)
	}
	return at(0.5), at(0.99)
}

// follow makes a change and returns the time until the first right answer, from the
// begin of the write and from its end. The latter is 0 if the answer was there before.
func (c *contender) follow(ctx context.Context, h *host.Host, ch change) (fromBegin, fromEnd time.Duration, err error) {
	var conn net.Conn
	err = h.Pod("client").Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "udp", c.at.String())
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	right, started := make(chan time.Time, 1), make(chan struct{})
	var asking errgroup.Group
	asking.Go(func() error { return askUntil(conn, ch, started, right) })
	<-started
	begin := time.Now()
	if err := ch.write(ctx); err != nil {
		return 0, 0, errors.Join(err, conn.Close(), asking.Wait())
	}
	end := time.Now()
	if err := asking.Wait(); err != nil {
		return 0, 0, err
	}
	at := <-right
	return at.Sub(begin), max(0, at.Sub(end)), nil
}

// askUntil asks until the answer is right, and says when. It tells of its first answer.
func askUntil(conn net.Conn, ch change, started chan<- struct{}, right chan<- time.Time) error {
	c, q := &dns.Conn{Conn: conn}, new(dns.Msg).SetQuestion(ch.name, dns.TypeA)
	first := true
	defer func() {
		if first {
			close(started)
		}
	}()
	for limit := time.Now().Add(rightLimit); time.Now().Before(limit); time.Sleep(askedEach) {
		if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if err := c.WriteMsg(q); err != nil {
			return err
		}
		m, err := c.ReadMsg()
		if err != nil {
			return err
		}
		if ch.right(m) {
			right <- time.Now()
			return nil
		}
		if first {
			first = false
			close(started)
		}
	}
	return fmt.Errorf("%s: not answered rightly within %v", ch.name, rightLimit)
}

func hasAddress(m *dns.Msg) bool { return m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1 }
func hasNoName(m *dns.Msg) bool  { return m.Rcode == dns.RcodeNameError }

func (w *world) kindsOfChange() []kindOfChange {
	fresh := func(i int) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("fresh-", i)},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		}
	}
	domain := func(s *corev1.Service) string { return s.Name + "." + namespace + "." + zone }
	return []kindOfChange{
		{"a Service is created", func(i int) change {
			s := fresh(i)
			return change{func(ctx context.Context) error { return w.Create(ctx, s) }, domain(s), hasAddress}
		}},
		{"a Service is deleted", func(i int) change {
			s := fresh(i)
			return change{func(ctx context.Context) error { return w.Delete(ctx, s) }, domain(s), hasNoName}
		}},
		{fmt.Sprintf("one of %d endpoints of a headless Service becomes unready, or ready", bigSlices*inSlice), w.endpointChange},
	}
}

// endpointChange takes an endpoint out in even turns, and puts it back in the next one.
func (w *world) endpointChange(i int) change {
	slice, endpoint := i/2*7%bigSlices, i/2%inSlice
	ready, right := i%2 == 1, hasNoName
	if ready {
		right = hasAddress
	}
	return change{
		name:  fmt.Sprintf("10-210-%d-%d.%s.%s.%s", slice, endpoint+1, bigName, namespace, zone),
		right: right,
		write: func(ctx context.Context) error {
			patch := fmt.Sprintf(`[{"op": "replace", "path": "/endpoints/%d/conditions", "value": {"ready": %v}}]`, endpoint, ready)
			o := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint(bigName, "-", slice)}}
			return w.Patch(ctx, o, client.RawPatch("application/json-patch+json", []byte(patch)))
		},
	}
}

// createBig makes the headless Service.
func (w *world) createBig(ctx context.Context) error {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: bigName},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if err := w.Create(ctx, s); err != nil {
		return err
	}
	for i := range bigSlices {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint(bigName, "-", i), Labels: map[string]string{discoveryv1.LabelServiceName: bigName}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		}
		for j := range inSlice {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("10.210.%d.%d", i, j+1)}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
		}
		if err := w.Create(ctx, slice); err != nil {
			return err
		}
	}
	return nil
}
