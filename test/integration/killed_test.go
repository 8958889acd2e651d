//go:build integration

package integration

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestKilledWhileItWrites kills the daemon while it has Services to write rules for, at
// a moment that chance chooses. The next one makes of what it finds what there should be.
func TestKilledWhileItWrites(t *testing.T) {
	const rounds, services = 8, 20
	n := startedNode(t, "client", "web-1")
	n.makePod("web-1")
	rng := rand.New(rand.NewPCG(1, 2))
	name := func(i int) string { return fmt.Sprint("s", i) }
	addresses := map[int]string{}
	create := func(i int) {
		svc := n.makeService("default", name(i), func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} })
		addresses[i] = svc.Spec.ClusterIP
	}
	for round := range rounds {
		daemon := n.daemon.Process
		time.AfterFunc(time.Duration(rng.IntN(300))*time.Millisecond, func() { _ = daemon.Kill() })
		for i := range services {
			if addresses[i] == "" {
				create(i)
				continue
			}
			if err := n.api.CoreV1().Services("default").Delete(t.Context(), name(i), metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			addresses[i] = ""
		}
		if round%2 == 1 { // not all are deleted
			create(rng.IntN(services))
		}
		time.Sleep(300 * time.Millisecond)
		n.stop(syscall.SIGKILL)
		n.start()
		took := n.eventually("the daemon is ready again", n.ready)
		t.Logf("round %d: ready %s after its start", round, took)
		for i := range services {
			if to := addresses[i]; to != "" {
				n.eventually(name(i)+" answers", func() error { return n.answering("client", to+":80", "web-1") })
			}
		}
	}
}
