//go:build integration

package watchcache

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/signpost-dev/signpost/test/apiserver"
)

// TestPodsOfOneNode holds Pods against a real API server: it selects the pods of
// the node, and those that have not ended.
func TestPodsOfOneNode(t *testing.T) {
	klog.SetLogger(logr.Discard())
	server, err := apiserver.Start(t.Context(), apiserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	httpClient, err := rest.HTTPClientFor(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	pods, err := NewPods(server.Config(), httpClient, "node1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- pods.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	api := kubernetes.NewForConfigOrDie(server.Config()).CoreV1().Pods("default")
	running := func(name, node, addr string) *corev1.Pod {
		t.Helper()
		pod, err := api.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PodSpec{
				NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}},
				DNSConfig: &corev1.PodDNSConfig{Searches: []string{name + ".example"}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: addr, PodIPs: []corev1.PodIP{{IP: addr}}}
		if pod, err = api.UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		return pod
	}
	at := func(addr string) string {
		if pod := pods.PodAt(netip.MustParseAddr(addr)); pod != nil {
			return pod.Searches[0]
		}
		return ""
	}
	becomes := func(addr, want string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); at(addr) != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("at %s is %q after 30 s, want %q", addr, at(addr), want)
			}
		}
	}
	running("there", "node2", "10.1.1.1")
	here := running("here", "node1", "10.1.0.1")
	running("also", "node1", "10.1.0.2")
	becomes("10.1.0.1", "here.example")
	becomes("10.1.0.2", "also.example")
	if got := at("10.1.1.1"); got != "" {
		t.Errorf("a pod of another node is known: %s", got)
	}
	here.Status.Phase = corev1.PodSucceeded
	if _, err := api.UpdateStatus(ctx, here, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	becomes("10.1.0.1", "")
	if err := api.Delete(ctx, "also", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	becomes("10.1.0.2", "")
}
