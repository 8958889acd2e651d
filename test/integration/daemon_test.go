//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/netlab"
)

// resolve asks the cluster's name server from a namespace for the addresses of a
// name; what it returns for a name that does not exist says so.
func (n *node) resolve(from *netlab.Namespace, network, name string) (string, error) {
	var conn net.Conn
	if err := from.Do(func() (err error) {
		conn, err = net.Dial(network, net.JoinHostPort(dnsIP, "53"))
		return err
	}); err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	query := new(dns.Msg)
	query.SetQuestion(dns.Fqdn(name), dns.TypeA)
	c := dns.Client{Timeout: time.Second}
	reply, _, err := c.ExchangeWithConnContext(n.t.Context(), query, &dns.Conn{Conn: conn})
	if err != nil {
		return "", err
	}
	answer := dns.RcodeToString[reply.Rcode]
	for _, rr := range reply.Answer {
		if a, ok := rr.(*dns.A); ok {
			answer += " " + a.A.String()
		}
	}
	return answer, nil
}

func (n *node) resolves(from *netlab.Namespace, network, name, want string) func() error {
	return func() error {
		got, err := n.resolve(from, network, name)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s: %q, want %q", name, got, want)
		}
		return nil
	}
}

func refused(_ netlab.Answer, err error) error {
	switch {
	case err == nil:
		return errors.New("somebody answers")
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil
	}
	return fmt.Errorf("want a refused connection, got %w", err)
}

func startedNode(t *testing.T, pods ...string) *node {
	t.Helper()
	n := newNode(t, pods...)
	n.makeNode()
	n.start()
	n.eventually("the daemon is ready", n.ready)
	return n
}

// TestOneServiceFromSelectorToPacketAndName is the main job, from beginning to end.
func TestOneServiceFromSelectorToPacketAndName(t *testing.T) {
	n := startedNode(t, "client", "web-1", "web-2")
	client := n.lab.Pod("client")
	n.makePod("web-1")
	n.makePod("web-2")
	svc := n.makeService("default", "web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort })
	to := svc.Spec.ClusterIP + ":80"
	name := "web.default.svc.cluster.local"

	n.eventually("both pods answer", func() error { return n.answering("client", to, "web-1", "web-2") })
	for _, network := range []string{"udp", "tcp"} {
		n.eventually("the name is there over "+network, n.resolves(client, network, name, "NOERROR "+svc.Spec.ClusterIP))
	}
	n.eventually("a process of the node gets an answer, too", func() error { return n.answering("node", to, "web-1", "web-2") })
	n.eventually("a pod reaches itself through the Service", func() error { return n.answering("web-1", to, "web-1", "web-2") })
	nodePort := fmt.Sprintf("%s:%d", n.lab.Node.Addrs[0], svc.Spec.Ports[0].NodePort)
	n.eventually("the node port answers from outside", func() error { return n.answering("outside", nodePort, "web-1", "web-2") })

	n.setReady("web-2", false)
	took := n.eventually("the pod that is not ready gets nothing", func() error { return n.answering("client", to, "web-1") })
	t.Logf("not ready any more: gone %s after its status was written", took)
	n.setReady("web-1", false)
	n.eventually("nobody is there", func() error { return refused(n.dial("client", to)) })
	n.eventually("nor at the node port", func() error { return refused(n.dial("outside", nodePort)) })
	n.setReady("web-1", true)
	n.eventually("it is back", func() error { return n.answering("client", to, "web-1") })

	if err := n.api.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.eventually("its name is gone", n.resolves(client, "udp", name, "NXDOMAIN"))
	n.eventually("its address refuses", func() error { return refused(n.dial("client", to)) })
	n.eventually("and to the node, too", func() error { return refused(n.dial("node", to)) })
}

// TestKilledDaemonLeavesTrafficAndAdoptsItsRules connects all the time while the
// daemon is killed and started again, as a kubelet would.
func TestKilledDaemonLeavesTrafficAndAdoptsItsRules(t *testing.T) {
	n := startedNode(t, "client", "web-1")
	n.makePod("web-1")
	svc := n.makeService("default", "web", func(*corev1.Service) {})
	to := svc.Spec.ClusterIP + ":80"
	n.eventually("the pod answers", func() error { return n.answering("client", to, "web-1") })

	ctx, cancel := context.WithCancel(t.Context())
	tried, failed := 0, make(chan error, 1)
	go func() {
		defer close(failed)
		for ; ctx.Err() == nil; tried++ {
			if _, err := n.dial("client", to); err != nil && ctx.Err() == nil {
				failed <- fmt.Errorf("connection %d: %w", tried, err)
				return
			}
		}
	}()
	n.stop(syscall.SIGKILL)
	time.Sleep(500 * time.Millisecond)
	n.start()
	took := n.eventually("the daemon is ready again", n.ready)
	time.Sleep(500 * time.Millisecond)
	cancel()
	if err := <-failed; err != nil {
		t.Error(err)
	}
	t.Logf("ready %s after its start; %d connections meanwhile", took, tried)
}

// TestAPIServerAway goes on with what is known, and takes up what came and went
// while nobody looked.
func TestAPIServerAway(t *testing.T) {
	n := startedNode(t, "client", "web-1")
	client := n.lab.Pod("client")
	n.makePod("web-1")
	svc := n.makeService("default", "web", func(*corev1.Service) {})
	to := svc.Spec.ClusterIP + ":80"
	n.eventually("the pod answers", func() error { return n.answering("client", to, "web-1") })

	n.way.shut()
	if err := n.server.StopAPI(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := n.answering("client", to, "web-1"); err != nil {
			t.Fatal(err)
		}
		if err := n.resolves(client, "udp", "web.default.svc.cluster.local", "NOERROR "+svc.Spec.ClusterIP)(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.ready(); err != nil {
		t.Errorf("without an API server the node serves as before, but: %v", err)
	}
	if err := n.server.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The server is back, but the daemon does not see it yet.
	late := n.makeService("default", "late", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} })
	if err := n.api.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	n.way.open()
	took := n.eventually("a Service made after the outage works", func() error {
		return n.answering("client", late.Spec.ClusterIP+":80", "web-1")
	})
	t.Logf("a Service made while nobody looked works after %s", took)
	n.eventually("and has a name", n.resolves(client, "udp", "late.default.svc.cluster.local", "NOERROR "+late.Spec.ClusterIP))
	n.eventually("a Service that was deleted while nobody looked is gone", n.resolves(client, "udp", "web.default.svc.cluster.local", "NXDOMAIN"))
}

// refusing is an iptables-restore that refuses whatever names a Service, as the
// real one does when a match that its rules need is missing.
const refusing = `#!/bin/sh
input=$(cat)
if printf '%%s' "$input" | grep -q 'default/cursed'; then
  line=$(printf '%%s\n' "$input" | grep -n 'default/cursed' | head -1 | cut -d: -f1)
  echo "iptables-restore v1.8.9: Couldn't load match 'cursed': No such file or directory" >&2
  echo "Error occurred at line: $line" >&2
  exit 2
fi
printf '%%s\n' "$input" | exec %s "$@"
`

// TestServiceThatTheKernelRefuses is named, and stops nobody else.
func TestServiceThatTheKernelRefuses(t *testing.T) {
	n := newNode(t, "client", "web-1")
	n.path = t.TempDir()
	wrapPrograms(t, n.path)
	n.makeNode()
	n.start()
	n.eventually("the daemon is ready", n.ready)
	n.makePod("web-1")
	cursed := n.makeService("default", "cursed", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} })
	good := n.makeService("default", "good", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} })
	n.eventually("the other Service works", func() error { return n.answering("client", good.Spec.ClusterIP+":80", "web-1") })
	n.setReady("web-1", false)
	n.eventually("and changes", func() error { return refused(n.dial("client", good.Spec.ClusterIP+":80")) })
	n.setReady("web-1", true)
	n.eventually("and changes back", func() error { return n.answering("client", good.Spec.ClusterIP+":80", "web-1") })
	n.eventually("an event on the Service says so", func() error {
		events, err := n.api.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=cursed"})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Type == corev1.EventTypeWarning && e.InvolvedObject.UID == cursed.UID && strings.Contains(e.Message, "cursed") {
				t.Logf("event: %s: %s", e.Reason, e.Message)
				return nil
			}
		}
		return fmt.Errorf("%d events, none of them about it", len(events.Items))
	})
	if !strings.Contains(n.log.String(), "default/cursed") {
		t.Error("the log does not name the Service")
	}
}

func wrapPrograms(t *testing.T, dir string) {
	t.Helper()
	for _, program := range []string{"iptables-restore", "iptables-nft-restore", "iptables-legacy-restore"} {
		for _, sbin := range []string{"/usr/sbin", "/sbin"} {
			real := filepath.Join(sbin, program)
			if _, err := os.Stat(real); err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, program), fmt.Appendf(nil, refusing, real), 0o755); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
}
