package chapter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
	"github.com/signpost-dev/signpost/test/chapter/trial"
)

// probeRate is how often per second the Service is asked while a pod fails: the
// last packet is seen to some milliseconds, and the machine is not kept busy.
const probeRate = 500

// readiness fails one pod's readiness probe, shows it leave the endpoints, the
// rules and the traffic, and lets it come back.
func readiness(ctx context.Context, w *walk) (finding string, err error) {
	pods, err := w.pods(ctx)
	if err != nil {
		return "", err
	}
	if len(pods) != replicas {
		return "", fmt.Errorf("%d pods, want %d", len(pods), replicas)
	}
	client, err := w.Client.CoreV1().Pods(namespace).Get(ctx, lab.ClientPod, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	f, err := trial.NewFlipper(ctx, w.Cluster, namespace, name, selector, client.Status.PodIP, "http://"+w.ip+":8080/", probeRate)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Stop()) }()
	w.Say("from here on the Service is asked %d times a second, each time over a new connection", probeRate)
	failing := &pods[0]
	off, err := w.leaves(ctx, f, failing, pods)
	if err != nil {
		return "", err
	}
	on, err := w.returns(ctx, f, failing, pods)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("last packet %s after the status said not ready, first one %s after it said ready again",
		milliseconds(off.Packet), milliseconds(on.Packet)), nil
}

// leaves fails the pod and checks that nothing leads to it any more.
func (w *walk) leaves(ctx context.Context, f *trial.Flipper, failing *corev1.Pod, all []corev1.Pod) (trial.Flip, error) {
	if err := w.rulesName(ctx, failing, true); err != nil {
		return trial.Flip{}, err
	}
	flip, err := w.flip(ctx, f, failing, false)
	if err != nil {
		return flip, err
	}
	if _, err := w.Kubectl(ctx, "describe", "endpoints", name); err != nil {
		return flip, err
	}
	var rest []string
	for _, p := range all {
		if p.Name != failing.Name {
			rest = append(rest, p.Status.PodIP)
		}
	}
	if err := lab.Eventually(ctx, settleLimit, func() error { return w.endpointsAre(ctx, rest) }); err != nil {
		return flip, err
	}
	if err := w.rulesName(ctx, failing, false); err != nil {
		return flip, err
	}
	out, err := w.Pod(ctx, loop(requests, "http://"+name+":8080/")...)
	if err != nil {
		return flip, err
	}
	if _, err := w.spread(ctx, out, requests); err != nil {
		return flip, err
	}
	if flip.Failed > 0 {
		return flip, fmt.Errorf("%d connections were not answered while the pod left", flip.Failed)
	}
	return flip, nil
}

// returns makes the pod ready again and checks that it gets its share.
func (w *walk) returns(ctx context.Context, f *trial.Flipper, failing *corev1.Pod, all []corev1.Pod) (trial.Flip, error) {
	flip, err := w.flip(ctx, f, failing, true)
	if err != nil {
		return flip, err
	}
	var ips []string
	for _, p := range all {
		ips = append(ips, p.Status.PodIP)
	}
	if err := lab.Eventually(ctx, settleLimit, func() error { return w.endpointsAre(ctx, ips) }); err != nil {
		return flip, err
	}
	out, err := w.Pod(ctx, loop(requests, "http://"+name+":8080/")...)
	if err != nil {
		return flip, err
	}
	_, err = w.spread(ctx, out, requests)
	return flip, err
}

// flip switches what the pod answers to its readiness probe.
func (w *walk) flip(ctx context.Context, f *trial.Flipper, pod *corev1.Pod, ready bool) (trial.Flip, error) {
	becomes := map[bool]string{true: "ready", false: "not ready"}[ready]
	flip, err := f.Flip(ctx, pod, ready, func() error { return w.answerReady(ctx, pod.Status.PodIP, ready) })
	if err != nil {
		return flip, err
	}
	w.Say("%s  %s: status says %s", flip.Told.Format("15:04:05.000"), pod.Name, becomes)
	w.Say("%12s  its EndpointSlice says so", "+"+milliseconds(flip.Endpoint))
	which := "the last new connection that reached it was begun"
	if ready {
		which = "the first new connection that reached it was begun"
	}
	w.Say("%12s  %s", "+"+milliseconds(flip.Packet), which)
	return flip, nil
}

// rulesName checks on the first node whether there are rules that lead to the
// pod's port.
func (w *walk) rulesName(ctx context.Context, pod *corev1.Pod, want bool) error {
	// Which of the two iptables programs Signpost uses is its own choice.
	script := fmt.Sprintf("for p in nft legacy; do iptables-$p-save -t nat 2>/dev/null; done | grep -cw 'to-destination %s:8080' || true", pod.Status.PodIP)
	return lab.Eventually(ctx, settleLimit, func() error {
		out, err := w.Node(ctx, 1, "sh", "-c", script)
		if err != nil {
			return err
		}
		if found := strings.TrimSpace(out) != "0"; found != want {
			return fmt.Errorf("rules that lead to %s: %s, want any: %v", pod.Status.PodIP, strings.TrimSpace(out), want)
		}
		return nil
	})
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
