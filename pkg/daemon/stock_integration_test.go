//go:build integration

package daemon

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/apiserver"
)

// TestBesideStockControllers: a leader does not write while a real
// kube-controller-manager does, says so, and begins when that was started anew
// without its endpoint controllers; it is not disturbed by one without them.
func TestBesideStockControllers(t *testing.T) {
	y := newYard(t, 3)
	y.names = []string{"a"}
	start := func(controllers ...string) *apiserver.Program {
		stock, err := y.server.StartStockWith([]string{"--leader-elect=true"}, controllers...)
		if err != nil {
			t.Fatal(err)
		}
		return stock
	}
	stop := func(s *apiserver.Program) {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}
	stock := start("endpoints-controller", "endpointslice-controller")
	y.waitUntil("the stock controllers publish", func() bool { return len(y.ready()) == 3 })
	time.Sleep(2 * time.Second)
	y.setReady(0, false)
	y.waitUntil("they publish a change", func() bool { return !y.ready()["10.1.0.1"] })

	a := y.contend("a", nil)
	said := func() string {
		list, err := y.api.CoreV1().Events("kube-system").List(t.Context(), metav1.ListOptions{FieldSelector: "reason=StockControllersAlive"})
		if err != nil || len(list.Items) == 0 {
			return ""
		}
		return list.Items[0].Message
	}
	y.waitUntil("an event says that they are alive", func() bool { return said() != "" })
	if text := said(); !strings.Contains(text, "--controllers=*,-endpoints-controller,-endpointslice-controller") || !strings.Contains(text, "default/web") {
		t.Errorf("the event says %s", text)
	}
	if y.holder() != "a" {
		t.Errorf("%q holds the Lease", y.holder())
	}
	stop(stock)
	y.setReady(1, false)
	time.Sleep(3 * time.Second)
	if got := y.ready(); !got["10.1.0.2"] {
		t.Errorf("published beside live stock controllers: %v", got)
	}
	old := stockHolder(y)

	stock = start("*", "-endpoints-controller", "-endpointslice-controller")
	y.waitUntil("the one without endpoint controllers leads", func() bool { h := stockHolder(y); return h != "" && h != old })
	began := time.Now()
	published := func() bool { got := y.ready(); return len(got) == 3 && !got["10.1.0.2"] }
	y.waitUntil("Signpost publishes", published)
	t.Logf("FIGURE a kube-controller-manager without endpoint controllers came: published after %v", time.Since(began).Round(time.Millisecond))
	a.stop()
	<-a.ended
	y.setReady(1, true)
	began = time.Now()
	a = y.contend("a", nil)
	y.waitUntil("Signpost publishes at once", func() bool { return y.ready()["10.1.0.2"] })
	took := time.Since(began)
	t.Logf("FIGURE it was there already: published after %v", took.Round(time.Millisecond))
	if took > 10*time.Second {
		t.Error("disturbed by a kube-controller-manager without endpoint controllers")
	}
	a.stop()
	stop(stock)
	if err := y.g.Wait(); err != nil {
		t.Error(err)
	}
}

func stockHolder(y *yard) string {
	l, err := y.api.CoordinationV1().Leases(stockNamespace).Get(y.Context(), stockLease, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return holderOf(&l.Spec, time.Now()).holder
}
