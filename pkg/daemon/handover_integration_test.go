//go:build integration

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/watchcache"
	"github.com/signpost-dev/signpost/test/apiserver"
)

func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard()) // an outage makes client-go talk
	os.Exit(m.Run())
}

// yard is a real API server with a Service and its pods, and leaders beside it.
type yard struct {
	*testing.T
	server *apiserver.Server
	api    kubernetes.Interface
	names  []string
	g      errgroup.Group
}

// contender is all of a daemon that has to do with leading.
type contender struct {
	name    string
	stop    context.CancelFunc
	ended   chan struct{}
	dead    atomic.Bool // none of its requests is answered any more
	metrics *prometheus.Registry
}

func newYard(t *testing.T, pods int) *yard {
	t.Helper()
	server, err := apiserver.Start(t.Context(), apiserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	y := &yard{T: t, server: server, api: kubernetes.NewForConfigOrDie(server.Config())}
	ctx := t.Context()
	_, err = y.api.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = y.api.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods {
		_, err = y.api.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("web-", i), Labels: map[string]string{"app": "web"}},
			Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "c", Image: "none"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		y.setReady(i, true)
	}
	return y
}

func (y *yard) setReady(i int, ready bool) {
	status := "False"
	if ready {
		status = "True"
	}
	ip := fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)
	patch := fmt.Sprintf(`{"status":{"phase":"Running","podIP":%q,"podIPs":[{"ip":%q}],"conditions":[{"type":"Ready","status":%q}]}}`, ip, ip, status)
	_, err := y.api.CoreV1().Pods("default").Patch(y.Context(), fmt.Sprint("web-", i), types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	if err != nil {
		y.Error(err)
	}
}

// ready returns which addresses are published as ready.
func (y *yard) ready() map[string]bool {
	list, err := y.api.DiscoveryV1().EndpointSlices("default").List(y.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
	if err != nil {
		y.Fatal(err)
	}
	out := map[string]bool{}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if _, twice := out[e.Addresses[0]]; twice {
				y.Errorf("%s is published twice", e.Addresses[0])
			}
			out[e.Addresses[0]] = *e.Conditions.Ready
		}
	}
	return out
}

// contend starts a contender.
func (y *yard) contend(name string, change func(*v1alpha1.SignpostConfiguration)) *contender {
	y.Helper()
	cfg := v1alpha1.Default()
	cfg.NodeName = name
	cfg.ClientConnection.Kubeconfig = filepath.Join(y.TempDir(), "kubeconfig")
	if err := y.server.WriteKubeconfig(cfg.ClientConnection.Kubeconfig); err != nil {
		y.Fatal(err)
	}
	if change != nil {
		change(cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &contender{name: name, stop: stop, ended: make(chan struct{}), metrics: prometheus.NewRegistry()}
	conn, err := connect(ctx, &cfg.ClientConnection)
	if err != nil {
		y.Fatal(err)
	}
	conn.httpClient.Transport = grave{c, conn.httpClient.Transport}
	log := slog.New(slog.NewTextHandler(writer{y.T, name}, nil))
	watched, err := watchcache.New(watchcache.Options{
		Config: conn.config, HTTPClient: conn.httpClient, NodeName: name, Log: log, Registerer: c.metrics, OnProblem: nil,
	})
	if err != nil {
		y.Fatal(err)
	}
	events, stopEvents := newEvents(conn.clientset, name)
	l := &leader{cfg: cfg, conn: conn, shared: watched.Shared(), events: events, log: log, registerer: c.metrics, peers: func() []string { return y.names }}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.run(ctx) })
	g.Go(func() error { return watched.Run(ctx) })
	y.g.Go(func() error {
		defer close(c.ended)
		defer stopEvents()
		defer conn.httpClient.CloseIdleConnections()
		return g.Wait()
	})
	return c
}

// grave answers nothing once its contender is dead.
type grave struct {
	of   *contender
	next http.RoundTripper
}

func (g grave) RoundTrip(r *http.Request) (*http.Response, error) {
	if g.of.dead.Load() {
		return nil, errors.New("dead")
	}
	return g.next.RoundTrip(r)
}

type writer struct {
	t    *testing.T
	name string
}

func (w writer) Write(p []byte) (int, error) {
	w.t.Logf("%s: %s", w.name, p)
	return len(p), nil
}

func (y *yard) holder() string {
	l, err := y.api.CoordinationV1().Leases("kube-system").Get(y.Context(), "signpost", metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// publications sends the time of each change of the Service's slices.
func (y *yard) publications(ctx context.Context) <-chan time.Time {
	out := make(chan time.Time, 100000)
	y.g.Go(func() error {
		defer close(out)
		for ctx.Err() == nil {
			if err := y.watchSlices(ctx, out); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	return out
}

// watchSlices watches until the server ends it, as it may at any time.
func (y *yard) watchSlices(ctx context.Context, out chan<- time.Time) error {
	o := metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"}
	list, err := y.api.DiscoveryV1().EndpointSlices("default").List(ctx, o)
	if err != nil {
		return err
	}
	o.ResourceVersion = list.ResourceVersion
	w, err := y.api.DiscoveryV1().EndpointSlices("default").Watch(ctx, o)
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if _, is := e.Object.(*discoveryv1.EndpointSlice); is {
			out <- time.Now()
		}
	}
	return nil
}

func (y *yard) waitUntil(what string, is func() bool) {
	y.Helper()
	for end := time.Now().Add(40 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			y.Fatal("not in time: ", what)
		}
	}
}

// TestHandOver: three contenders; pods change all the time while the leader is
// stopped, and while it dies. The next publication comes within a second, or when
// the Lease has expired; nothing is lost, nothing is there twice.
func TestHandOver(t *testing.T) {
	const pods, lease = 300, 4 * time.Second
	y := newYard(t, pods)
	y.names = []string{"a", "b", "c"}
	quick := func(cfg *v1alpha1.SignpostConfiguration) {
		e := &cfg.LeaderElection
		e.LeaseDuration.Duration, e.RenewDeadline.Duration, e.RetryPeriod.Duration = lease, 3*time.Second, time.Second
	}
	contenders := map[string]*contender{}
	for _, name := range y.names {
		contenders[name] = y.contend(name, quick)
	}
	ctx, cancel := context.WithCancel(t.Context())
	y.waitUntil("all is published", func() bool { return len(y.ready()) == pods })
	published := y.publications(ctx)

	var mu sync.Mutex
	want := map[string]bool{}
	load := make(chan struct{})
	loadCtx, endLoad := context.WithCancel(ctx)
	go func() {
		defer close(load)
		for n := 0; loadCtx.Err() == nil; n++ {
			i, on := n%pods, (n/pods)%2 == 1
			y.setReady(i, on)
			mu.Lock()
			want[fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)] = on
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
	}()
	next := func(after time.Time) time.Duration {
		for at := range published {
			if at.After(after) {
				return at.Sub(after)
			}
		}
		t.Fatal("the watch has ended")
		return 0
	}
	for _, tt := range []struct {
		name   string
		kill   bool
		within time.Duration
	}{{"clean stop", false, time.Second}, {"kill -9", true, lease + time.Second}} {
		time.Sleep(3 * time.Second) // the standby is warm
		was := y.holder()
		old := contenders[was]
		if old == nil {
			t.Fatalf("%q leads", was)
		}
		at := time.Now()
		if tt.kill {
			old.dead.Store(true)
			at = at.Add(50 * time.Millisecond) // what is under way
			time.Sleep(50 * time.Millisecond)
		}
		old.stop()
		y.waitUntil("somebody else leads", func() bool { h := y.holder(); return h != was && h != "" })
		led := time.Since(at)
		<-old.ended
		took := led + next(at.Add(led)) // the old leader may have published on its way out
		t.Logf("FIGURE %s: %s leads after %v, next publication after %v", tt.name, y.holder(), led.Round(time.Millisecond), took.Round(time.Millisecond))
		if took > tt.within {
			t.Errorf("%s: the next publication came after %v, want %v", tt.name, took, tt.within)
		}
		contenders[was] = y.contend(was, quick)
	}
	endLoad()
	<-load
	y.waitUntil("the last state is published", func() bool {
		got := y.ready()
		for ip, on := range want {
			if got[ip] != on {
				return false
			}
		}
		return len(got) == pods
	})
	for _, c := range contenders {
		c.stop()
	}
	cancel()
	if err := y.g.Wait(); err != nil {
		t.Error(err)
	}
}

// TestFiftyStandbys: next in line fifty times, of which every second time leads
// to a term, leave as many goroutines as one.
func TestFiftyStandbys(t *testing.T) {
	y := newYard(t, 3)
	cfg := v1alpha1.Default()
	cfg.ClientConnection.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := y.server.WriteKubeconfig(cfg.ClientConnection.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	conn, err := connect(t.Context(), &cfg.ClientConnection)
	if err != nil {
		t.Fatal(err)
	}
	l := &leader{cfg: cfg, conn: conn, log: slog.New(slog.DiscardHandler)}
	once := func(takeOver bool) {
		l.standby(t.Context(), true)
		if !l.warm.WaitForCacheSync(t.Context()) {
			t.Fatal("the standby's cache is not complete")
		}
		var pods corev1.PodList
		if err := l.warm.List(t.Context(), &pods); err != nil || len(pods.Items) != 3 {
			t.Fatalf("the standby knows %d pods: %v", len(pods.Items), err)
		}
		if !takeOver {
			l.standby(t.Context(), false)
			return
		}
		warm := l.warm
		got, err := l.cache(t.Context())
		if err != nil || got != warm || l.warm != nil {
			t.Fatalf("the term does not take the standby's cache: %v", err)
		}
		got.stop()
	}
	settled := func() int {
		n := runtime.NumGoroutine()
		for range 50 {
			time.Sleep(20 * time.Millisecond)
			n = min(n, runtime.NumGoroutine())
		}
		return n
	}
	once(false)
	before := settled()
	for i := range 50 {
		once(i%2 == 0)
	}
	after := settled()
	t.Logf("FIGURE goroutines after one standby %d, after fifty more %d", before, after)
	if after > before+2 {
		t.Errorf("%d goroutines after one standby, %d after fifty more", before, after)
	}
}
