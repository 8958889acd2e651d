//go:build integration

package daemon

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
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
	y.waitUntil("an event says that they are alive", func() bool { return y.saidOfStock() != "" })
	if text := y.saidOfStock(); !strings.Contains(text, "--controllers=*,-endpoints-controller,-endpointslice-controller") || !strings.Contains(text, "default/web") {
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

// TestMirroringAlone: the other endpoint controllers are off, here, and run in a
// real kube-controller-manager, which disturbs neither; one that mirrors, too, does.
func TestMirroringAlone(t *testing.T) {
	y := newYard(t, 2)
	y.names = []string{"a"}
	stock, err := y.server.StartStockWith([]string{"--leader-elect=true"}, "endpoints-controller", "endpointslice-controller")
	if err != nil {
		t.Fatal(err)
	}
	y.waitUntil("the stock controllers publish", func() bool { return len(y.ready()) == 2 })
	y.custom("custom", "192.0.2.1")
	alone := func(cfg *v1alpha1.SignpostConfiguration) {
		c := &cfg.Controllers
		c.Endpoints.Enabled, c.EndpointSlice.Enabled, c.EndpointSliceMirroring.Enabled = false, false, true
	}
	a := y.contend("a", alone)
	y.waitUntil("Signpost mirrors", func() bool { return slices.Equal(y.mirrored("custom"), []string{"192.0.2.1"}) })
	y.setReady(0, false)
	y.waitUntil("the stock controllers go on", func() bool { return !y.ready()["10.1.0.1"] })
	if y.holder() != "a" {
		t.Errorf("%q holds the Lease", y.holder())
	}
	if err := stock.Stop(); err != nil {
		t.Error(err)
	}
	y.setReady(0, true)
	y.custom("late", "192.0.2.2")
	y.waitUntil("Signpost mirrors without them", func() bool { return slices.Equal(y.mirrored("late"), []string{"192.0.2.2"}) })
	if y.ready()["10.1.0.1"] {
		t.Error("somebody publishes for a Service with a selector")
	}
	a.stop()
	<-a.ended

	old := stockHolder(y)
	stock, err = y.server.StartStockWith([]string{"--leader-elect=true"}, "endpointslice-mirroring-controller")
	if err != nil {
		t.Fatal(err)
	}
	y.waitUntil("the stock controller leads", func() bool { h := stockHolder(y); return h != "" && h != old })
	time.Sleep(2 * time.Second) // managed fields have whole seconds
	y.custom("theirs", "192.0.2.3")
	y.waitUntil("it mirrors", func() bool { return len(y.mirrored("theirs")) == 1 })
	a = y.contend("a", alone)
	y.waitUntil("an event says that it is alive", func() bool {
		text := y.saidOfStock()
		return strings.Contains(text, "EndpointSlice default/") && strings.Contains(text, "-endpointslice-mirroring-controller")
	})
	if err := stock.Stop(); err != nil {
		t.Error(err)
	}
	y.custom("nobodys", "192.0.2.4")
	time.Sleep(3 * time.Second)
	if got := y.mirrored("nobodys"); len(got) > 0 {
		t.Errorf("mirrored beside a live stock controller: %v", got)
	}
	a.stop()
	if err := y.g.Wait(); err != nil {
		t.Error(err)
	}
}

// custom makes a Service without selector and its Endpoints.
func (y *yard) custom(name, ip string) {
	y.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := y.api.CoreV1().Services("default").Create(y.Context(), svc, metav1.CreateOptions{}); err != nil {
		y.Fatal(err)
	}
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name}, Subsets: []corev1.EndpointSubset{{
		Addresses: []corev1.EndpointAddress{{IP: ip}}, Ports: []corev1.EndpointPort{{Port: 80}},
	}}}
	if _, err := y.api.CoreV1().Endpoints("default").Create(y.Context(), e, metav1.CreateOptions{}); err != nil {
		y.Fatal(err)
	}
}

// mirrored returns the addresses in slices that mirror a Service's Endpoints.
func (y *yard) mirrored(name string) (out []string) {
	list, err := y.api.DiscoveryV1().EndpointSlices("default").List(y.Context(), metav1.ListOptions{
		LabelSelector: "kubernetes.io/service-name=" + name + ",endpointslice.kubernetes.io/managed-by=endpointslicemirroring-controller.k8s.io",
	})
	if err != nil {
		y.Fatal(err)
	}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			out = append(out, e.Addresses...)
		}
	}
	return out
}

// saidOfStock returns the event that says that stock controllers are alive.
func (y *yard) saidOfStock() string {
	list, err := y.api.CoreV1().Events("kube-system").List(y.Context(), metav1.ListOptions{FieldSelector: "reason=StockControllersAlive"})
	if err != nil || len(list.Items) == 0 {
		return ""
	}
	return list.Items[0].Message
}
