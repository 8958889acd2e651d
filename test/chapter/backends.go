package chapter

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	signpostv1alpha1 "github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/test/chapter/lab"
)

// byHandName is a Service without selector.
const byHandName = "alpaca-by-hand"

// backends lists the pods by hand, has them checked, and lets one fail.
func backends(ctx context.Context, w *walk) (string, error) {
	pods, err := w.pods(ctx)
	if err != nil {
		return "", err
	}
	var all []string
	for _, p := range pods {
		all = append(all, p.Status.PodIP)
	}
	slices.Sort(all)
	if err := w.applyByHand(ctx, all); err != nil {
		return "", err
	}
	if err := w.healthyBecome(ctx, all); err != nil {
		return "", err
	}
	failing := all[0]
	if err := w.answerReady(ctx, failing, false); err != nil {
		return "", err
	}
	begin := time.Now()
	if err := w.healthyBecome(ctx, all[1:]); err != nil {
		return "", err
	}
	left := time.Since(begin)
	if err := w.byHandWithout(ctx, pods, failing); err != nil {
		return "", err
	}
	if err := w.answerReady(ctx, failing, true); err != nil {
		return "", err
	}
	if err := w.healthyBecome(ctx, all); err != nil {
		return "", err
	}
	_, err = w.Kubectl(ctx, "delete", "service/"+byHandName, "endpointslice/"+byHandName)
	return fmt.Sprintf("%s left %.1f s after it began to fail, and came back", failing, left.Seconds()), err
}

// applyByHand makes the Service and its slice.
func (w *walk) applyByHand(ctx context.Context, ips []string) error {
	_, err := w.Apply(ctx, namespace, fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata:
  name: %[1]s
  annotations:
    signpost.dev/health-check: http
    signpost.dev/health-check-path: /ready
    signpost.dev/health-check-interval: 1s
spec:
  ports: [{port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: %[1]s
  labels: {kubernetes.io/service-name: %[1]s}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [%[2]s]}]`, byHandName, strings.Join(ips, "]}, {addresses: [")))
	return err
}

// byHandWithout checks that the pods answer but for the one that fails, and shows what
// is published.
func (w *walk) byHandWithout(ctx context.Context, pods []corev1.Pod, failing string) error {
	out, err := w.Pod(ctx, loop(requests/2, "http://"+byHandName+":8080/")...)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if p.Status.PodIP == failing && strings.Contains(out, p.Name) {
			return fmt.Errorf("%s fails its check and answered", p.Name)
		}
	}
	if _, err := w.Kubectl(ctx, "get", "endpointslices", "-l", discoveryv1.LabelServiceName+"="+byHandName); err != nil {
		return err
	}
	_, err = w.Kubectl(ctx, "events", "--for", "service/"+byHandName)
	return err
}

// healthyBecome waits until the backends that pass their check are these.
func (w *walk) healthyBecome(ctx context.Context, want []string) error {
	return lab.Eventually(ctx, startLimit, func() error { return w.healthyAre(ctx, want) })
}

// answerReady has a pod answer its checks with success or failure.
func (w *walk) answerReady(ctx context.Context, ip string, ready bool) error {
	path := map[bool]string{true: "/ready/on", false: "/ready/off"}[ready]
	_, err := w.Pod(ctx, "curl", "-sS", "--max-time", "5", "-X", "POST", "http://"+ip+":8080"+path)
	return err
}

// healthyAre says how the backends that pass their check differ from want.
func (w *walk) healthyAre(ctx context.Context, want []string) error {
	list, err := w.Client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + byHandName + "," + discoveryv1.LabelManagedBy + "=" + signpostv1alpha1.BackendsManager})
	if err != nil {
		return err
	}
	var healthy []string
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				healthy = append(healthy, e.Addresses...)
			}
		}
	}
	return sameSet("backends that pass their check", healthy, want)
}
