//go:build integration

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEndpointsByHand: what somebody writes into the Endpoints of a Service without
// selector gets packets and has names, by the slices that mirror it: with all
// controllers, and if this one is on alone.
func TestEndpointsByHand(t *testing.T) {
	for name, controllers := range map[string]string{
		"all":   "",
		"alone": "controllers: {endpoints: {enabled: false}, endpointSlice: {enabled: false}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "client", "db-1", "db-2")
			n.configure(controllers)
			n.makeNode()
			n.start()
			n.eventually("the daemon is ready", n.ready)
			testEndpointsByHand(n)
		})
	}
}

func testEndpointsByHand(n *node) {
	n.t.Helper()
	client := n.lab.Pod("client")
	for _, pod := range []string{"db-1", "db-2"} {
		server, err := n.lab.Pod(pod).Serve("tcp", netip.AddrPortFrom(n.lab.Pod(pod).Addrs[0], 5432))
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { _ = server.Close() })
	}
	byHand := func(s *corev1.Service) { s.Spec.Selector, s.Spec.Ports[0].Name = nil, "" }
	svc := n.makeService("default", "db", byHand)
	headless := n.makeService("default", "peers", func(s *corev1.Service) { byHand(s); s.Spec.ClusterIP = corev1.ClusterIPNone })
	to := svc.Spec.ClusterIP + ":80"
	n.eventually("its name is there", n.resolves(client, "udp", "db.default.svc.cluster.local", "NOERROR "+svc.Spec.ClusterIP))
	n.eventually("nobody is there", func() error { return refused(n.dial("client", to)) })

	n.writeEndpoints("db", nil, "db-1", "db-2")
	took := n.eventually("both answer", func() error { return n.answering("client", to, "db-1", "db-2") })
	n.t.Logf("FIGURE Endpoints written by hand get packets %s later", took)
	n.eventually("from the node, too", func() error { return n.answering("node", to, "db-1", "db-2") })
	n.writeEndpoints("peers", nil, "db-1", "db-2")
	ips := []string{n.lab.Pod("db-1").Addrs[0].String(), n.lab.Pod("db-2").Addrs[0].String()}
	n.eventually("the names of a headless one are their addresses", n.resolvesToAll(headless.Name, ips...))
	n.eventually("and one by one", n.resolves(client, "udp", "db-1.peers.default.svc.cluster.local", "NOERROR "+ips[0]))

	n.writeEndpoints("db", []string{"db-2"}, "db-1")
	n.eventually("the one that is not ready gets nothing", func() error { return n.answering("client", to, "db-1") })
	n.writeEndpoints("peers", []string{"db-2"}, "db-1")
	n.eventually("and has no name", n.resolvesToAll(headless.Name, ips[0]))
	if err := n.api.CoreV1().Endpoints("default").Delete(n.t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("nobody is there any more", func() error { return refused(n.dial("client", to)) })
	n.writeEndpoints("db", nil, "db-2")
	n.eventually("it is back", func() error { return n.answering("client", to, "db-2") })
	if err := n.api.CoreV1().Services("default").Delete(n.t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("its name is gone", n.resolves(client, "udp", "db.default.svc.cluster.local", "NXDOMAIN"))
}

// configure adds lines to the daemon's configuration.
func (n *node) configure(lines string) {
	n.t.Helper()
	file := filepath.Join(n.dir, "config.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, lines...), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// writeEndpoints makes or changes an Endpoints as its owner would.
func (n *node) writeEndpoints(name string, notReady []string, ready ...string) {
	n.t.Helper()
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name}, Subsets: []corev1.EndpointSubset{{Ports: []corev1.EndpointPort{{Port: 5432}}}}}
	addresses := func(pods []string) (out []corev1.EndpointAddress) {
		for _, p := range pods {
			out = append(out, corev1.EndpointAddress{IP: n.lab.Pod(p).Addrs[0].String(), Hostname: p})
		}
		return out
	}
	e.Subsets[0].Addresses, e.Subsets[0].NotReadyAddresses = addresses(ready), addresses(notReady)
	api := n.api.CoreV1().Endpoints("default")
	_, err := api.Update(n.t.Context(), e, metav1.UpdateOptions{})
	if err != nil {
		_, err = api.Create(n.t.Context(), e, metav1.CreateOptions{})
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// resolvesToAll checks which addresses the name of a Service has, in any order.
func (n *node) resolvesToAll(name string, ips ...string) func() error {
	return func() error {
		got, err := n.resolve(n.lab.Pod("client"), "udp", name+".default.svc.cluster.local")
		if err != nil {
			return err
		}
		answer := strings.Fields(got)
		slices.Sort(answer[1:])
		if want := append([]string{"NOERROR"}, slices.Sorted(slices.Values(ips))...); !slices.Equal(answer, want) {
			return fmt.Errorf("%s: %v, want %v", name, answer, want)
		}
		return nil
	}
}
