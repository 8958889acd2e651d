//go:build integration

package packets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/netlab"
)

// checks are what load balancers are told at health check ports: how many endpoints are here and ready.
func checks() map[string]int {
	return map[string]int{"balancedlocal": 1, "balancedaway": 0, "balancedleaving": 0}
}

// healthz is where load balancers ask for the node.
const healthz = 10256

// checkHealth asks as load balancers do, from outside and at every address of the node.
func (r *rig) checkHealth() {
	r.t.Helper()
	first := onlyFirst(r.system.mode)
	if first {
		r.checkSecondIsClosed()
	}
	for name, local := range checks() {
		want := map[string]any{
			"service":        map[string]any{"namespace": "default", "name": name},
			"localEndpoints": float64(local), "serviceProxyHealthy": true,
		}
		for i, at := range r.balancersAsk(name) {
			if first && i%2 == 1 {
				continue
			}
			status, header, body, err := get(r.t.Context(), r.Outside, at)
			good := status == http.StatusServiceUnavailable
			if local > 0 {
				good = status == http.StatusOK
			}
			if err != nil || !good || header.Get("X-Load-Balancing-Endpoint-Weight") != fmt.Sprint(local) ||
				header.Get("Content-Type") != "application/json" || !reflect.DeepEqual(body, want) {
				r.t.Errorf("health check of %s at %s: %d %v %v (%v), want %v", name, at, status, header, body, err, want)
			}
		}
	}
}

// balancersAsk are the health check ports of a Service, at the node's first and second address in turn.
func (r *rig) balancersAsk(name string) []netip.AddrPort {
	var out []netip.AddrPort
	port := healthPorts()[name]
	for family := range 2 {
		out = append(out, netip.AddrPortFrom(r.Node.Addrs[family], port), netip.AddrPortFrom(second[family], port))
	}
	return out
}

// checkSecondIsClosed has nobody listen for load balancers at the node's second address.
func (r *rig) checkSecondIsClosed() {
	r.t.Helper()
	for name := range checks() {
		for i, at := range r.balancersAsk(name) {
			_, _, _, err := get(r.t.Context(), r.Outside, at)
			if i%2 == 0 && err != nil || i%2 == 1 && !errors.Is(err, syscall.ECONNREFUSED) {
				r.t.Errorf("health check of %s at %s: %v", name, at, err)
			}
		}
	}
}

// checkNode asks for the node as it stays, as it goes, and as it stays after all.
func (r *rig) checkNode(c client.Client) {
	r.t.Helper()
	at := netip.AddrPortFrom(r.Node.Addrs[0], healthz)
	r.awaitNode(at, http.StatusOK, true)
	taint(r.t, c, corev1.Taint{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule})
	r.awaitNode(at, http.StatusServiceUnavailable, false)
	taint(r.t, c)
	r.awaitNode(at, http.StatusOK, true)
}

func (r *rig) awaitNode(at netip.AddrPort, want int, eligible bool) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, _, body, err := get(r.t.Context(), r.Outside, at)
		if err == nil && status == want && body["nodeEligible"] == eligible && body["healthy"] == true {
			for _, field := range []string{"lastUpdated", "currentTime"} {
				if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(body[field])); err != nil {
					r.t.Errorf("%s: %v", field, err)
				}
			}
			return
		}
		if time.Now().After(end) {
			r.t.Errorf("the node's health: %d %v (%v), want %d and nodeEligible %v", status, body, err, want, eligible)
			return
		}
	}
}

// taint gives the node these taints and no others.
func taint(t *testing.T, c client.Client, taints ...corev1.Taint) {
	t.Helper()
	var n corev1.Node
	if err := c.Get(t.Context(), types.NamespacedName{Name: nodeName}, &n); err != nil {
		t.Fatal(err)
	}
	n.Spec.Taints = taints
	if err := c.Update(t.Context(), &n); err != nil {
		t.Fatal(err)
	}
}

// get asks from a namespace, and decodes JSON.
func get(ctx context.Context, from *netlab.Namespace, at netip.AddrPort) (status int, header http.Header, body map[string]any, err error) {
	dial := func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = from.Do(func() (err error) {
			c, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
	asker := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+"/healthz", http.NoBody)
	if err != nil {
		return 0, nil, nil, err
	}
	res, err := asker.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, &body)
	}
	return res.StatusCode, res.Header, body, err
}
