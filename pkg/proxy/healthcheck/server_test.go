package healthcheck

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/signpost-dev/signpost/pkg/model"
)

// cluster is what a Server learns, and whom it tells.
type cluster struct {
	mu       sync.Mutex
	snapshot *model.Snapshot
	changed  chan struct{}
	warnings []string
	behind   time.Duration
}

func (c *cluster) Snapshot() *model.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.snapshot
}

func (c *cluster) Subscribe() <-chan struct{} { return c.changed }

func (c *cluster) ServiceWarning(svc *model.Service, reason, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = append(c.warnings, svc.Name.String()+" "+reason+" "+message)
}

func (c *cluster) warned() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.warnings
}

func (c *cluster) publish(services ...*model.Service) {
	changes := map[model.Name]*model.Service{}
	for _, s := range services {
		changes[s.Name] = s
	}
	var m model.ServiceMap
	c.mu.Lock()
	c.snapshot = &model.Snapshot{Node: model.Node{Name: "node1"}, Services: m.With(changes)}
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *cluster) setBehind(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behind = d
}

func start(t *testing.T, at func(*model.Node, bool) []netip.Prefix) *cluster {
	t.Helper()
	c := &cluster{changed: make(chan struct{}, 1)}
	s := New(Options{
		Snapshots: c, Events: c, At: at, Log: slog.New(slog.DiscardHandler),
		Behind: func() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); return c.behind },
	})
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

func everywhere(_ *model.Node, ipv4 bool) []netip.Prefix {
	if ipv4 {
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	}
	return []netip.Prefix{netip.MustParsePrefix("::/0")}
}

// loopback is 127.0.0.0/8, and all of IPv6.
func loopback(_ *model.Node, ipv4 bool) []netip.Prefix {
	if ipv4 {
		return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	return everywhere(nil, false)
}

// service has endpoints like "10.0.0.1@node1", with a ! in front if they are not ready.
func service(name string, port uint16, endpoints ...string) *model.Service {
	svc := &model.Service{
		Name: model.Name{Namespace: "default", Name: name}, HealthCheckNodePort: port, ExternalLocal: true,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00::1")},
	}
	for _, text := range endpoints {
		text, unready := strings.CutPrefix(text, "!")
		addr, node, _ := strings.Cut(text, "@")
		svc.Groups = append(svc.Groups, model.EndpointGroup{Endpoints: []model.Endpoint{{Addr: netip.MustParseAddr(addr), Node: node, Ready: !unready}}})
	}
	return svc
}

// freePort is one that nobody has at the moment.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// ask returns what is answered on loopback.
func ask(t *testing.T, host string, port uint16) (status int, weight, body string, err error) {
	t.Helper()
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get("http://" + net.JoinHostPort(host, fmt.Sprint(port)) + "/healthz")
	if err != nil {
		return 0, "", "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header.Get("X-Load-Balancing-Endpoint-Weight"), string(text), err
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	err := check()
	for end := time.Now().Add(10 * time.Second); err != nil; err = check() {
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestService goes through the answers of one Service's port, for each family.
func TestService(t *testing.T) {
	c := start(t, everywhere)
	port := freePort(t)
	answers := func(host string, status int, weight string, healthy bool) func() error {
		return func() error {
			s, w, body, err := ask(t, host, port)
			if err != nil {
				return err
			}
			want := fmt.Sprintf(`{"service":{"namespace":"default","name":"web"},"localEndpoints":%s,"serviceProxyHealthy":%v}`, weight, healthy)
			if s != status || w != weight || strings.TrimSpace(body) != want {
				return fmt.Errorf("%s: status %d, weight %s, %s", host, s, w, body)
			}
			return nil
		}
	}
	c.publish(service("web", port, "10.0.0.1@node1", "10.0.0.1@node1", "10.0.0.2@node1", "!10.0.0.3@node1", "10.0.1.1@node2", "fd00:1::1@node2"))
	eventually(t, "two endpoints are here", answers("127.0.0.1", 200, "2", true))
	eventually(t, "none of IPv6 is", answers("::1", 503, "0", true))
	c.setBehind(Late)
	eventually(t, "rules are late", answers("127.0.0.1", 503, "2", false))
	c.setBehind(0)
	c.publish(service("web", port, "10.0.1.1@node2"))
	eventually(t, "they have gone", answers("127.0.0.1", 503, "0", true))
	other := service("web", port)
	other.HealthCheckNodePort = 0
	c.publish(other)
	eventually(t, "the port is closed", func() error {
		if _, _, _, err := ask(t, "127.0.0.1", port); err == nil {
			return fmt.Errorf("it answers")
		}
		return nil
	})
}

// TestPortThatIsTaken names the Service, serves the other one, and the first one, too, when the port
// becomes free.
func TestPortThatIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	port, free := uint16(taken.Addr().(*net.TCPAddr).Port), freePort(t)
	c := start(t, everywhere)
	c.publish(service("a", port, "10.0.0.1@node1"), service("b", free, "10.0.0.1@node1"))
	eventually(t, "the other one answers", func() error { _, _, _, err := ask(t, "127.0.0.1", free); return err })
	eventually(t, "it is said", func() error {
		for _, w := range c.warned() {
			if strings.HasPrefix(w, "default/a "+ReasonNotServed+" node node1 cannot answer at health check port "+fmt.Sprint(port)) {
				return nil
			}
		}
		return fmt.Errorf("%q", c.warned())
	})
	_ = taken.Close()
	eventually(t, "it answers when the port is free", func() error { _, _, _, err := ask(t, "127.0.0.1", port); return err })
	if n := len(c.warned()); n != 2 { // once for each family
		t.Errorf("said %d times: %q", n, c.warned())
	}
}

// TestOtherAddresses are not listened at: who connects is refused, and who listens there is in nobody's way.
func TestOtherAddresses(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	port := uint16(other.Addr().(*net.TCPAddr).Port)
	c := start(t, loopback)
	c.publish(service("web", port, "10.0.0.1@node1"))
	for _, host := range []string{"127.0.0.1", "::1"} {
		eventually(t, host+" answers", func() error { _, _, _, err := ask(t, host, port); return err })
	}
	if _, _, _, err := ask(t, "127.0.0.3", port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("an address that the node does not have: %v, want that it is refused", err)
	}
	if said := c.warned(); len(said) != 0 {
		t.Errorf("said %q", said)
	}
}

// TestNoAddress serves one family only, and nothing complains about the other.
func TestNoAddress(t *testing.T) {
	c := start(t, func(_ *model.Node, ipv4 bool) []netip.Prefix {
		if ipv4 {
			return []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
		}
		return everywhere(nil, false)
	})
	port := freePort(t)
	c.publish(service("web", port, "10.0.0.1@node1"))
	eventually(t, "IPv6 answers", func() error { _, _, _, err := ask(t, "::1", port); return err })
	if _, _, _, err := ask(t, "127.0.0.1", port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("IPv4: %v, want that it is refused", err)
	}
	if said := c.warned(); len(said) != 0 {
		t.Errorf("said %q", said)
	}
}

func TestNode(t *testing.T) {
	var behind time.Duration
	snap := &model.Snapshot{}
	registry := prometheus.NewRegistry()
	h, err := Node(func() *model.Snapshot { return snap }, func() time.Duration { return behind }, registry)
	if err != nil {
		t.Fatal(err)
	}
	get := func(status int, eligible, healthy bool) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", http.NoBody))
		var got nodeReport
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if w.Code != status || got.NodeEligible != eligible || got.Healthy != healthy || got.CurrentTime.Sub(got.LastUpdated) != behind {
			t.Errorf("%d %s, want %d", w.Code, w.Body, status)
		}
	}
	get(http.StatusOK, true, true)
	behind = 2 * Late
	get(http.StatusServiceUnavailable, true, false)
	behind = 0
	snap = &model.Snapshot{Node: model.Node{Leaving: true}}
	get(http.StatusServiceUnavailable, false, true)
	snap = nil
	get(http.StatusServiceUnavailable, false, true)
	want := `
# HELP kubeproxy_proxy_healthz_total Answers of /healthz, by status.
# TYPE kubeproxy_proxy_healthz_total counter
kubeproxy_proxy_healthz_total{code="200"} 1
kubeproxy_proxy_healthz_total{code="503"} 3
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "kubeproxy_proxy_healthz_total"); err != nil {
		t.Error(err)
	}
}
