package chapter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/test/chapter/lab"
)

const (
	namespace = "default"
	name      = "alpaca-prod"
	fixedName = "alpaca-fixed"
	selector  = "app=alpaca-prod"
	replicas  = 3
	// startLimit bounds what kubelets and scheduler take, which are not under
	// test, and settleLimit what Signpost may take for a change, generously.
	startLimit  = 90 * time.Second
	settleLimit = 10 * time.Second
)

// readinessPatch is what the chapter has the reader edit into the Deployment.
const readinessPatch = `{"spec":{"template":{"spec":{"containers":[{"name":"kuard",` +
	`"readinessProbe":{"httpGet":{"path":"/ready","port":8080},"periodSeconds":1,"failureThreshold":1}}]}}}}`

// prepare leaves a client pod, and nothing of an earlier walk.
func prepare(ctx context.Context, w *walk) (string, error) {
	if _, err := w.Kubectl(ctx, "delete", "--ignore-not-found", "--wait=false", "service/"+name, "service/"+fixedName, "service/"+internalName, "service/"+byHandName, "endpointslice/"+byHandName, "deployment/"+name); err != nil {
		return "", err
	}
	if err := w.noPools(ctx); err != nil {
		return "", err
	}
	// Pods that are about to end would be counted, and a Service's old name be
	// found, by what follows.
	err := lab.Eventually(ctx, startLimit, func() error {
		pods, err := w.pods(ctx)
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("%d pods of an earlier walk are still there", len(pods))
		}
		return err
	})
	if err != nil {
		return "", err
	}
	_, err = w.Client.CoreV1().Pods(namespace).Get(ctx, lab.ClientPod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = w.Kubectl(ctx, "run", lab.ClientPod, "--image=signpost.dev/toolbox:dev", "--image-pull-policy=IfNotPresent", "--command", "--", "sleep", "infinity")
	}
	if err != nil {
		return "", err
	}
	if _, err := w.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=90s", "pod/"+lab.ClientPod); err != nil {
		return "", err
	}
	if _, err := w.Pod(ctx, "cat", "/etc/resolv.conf"); err != nil {
		return "", err
	}
	return "the client pod runs", nil
}

func deploy(ctx context.Context, w *walk) (string, error) {
	for _, args := range [][]string{
		{"create", "deployment", name, "--image=signpost.dev/kuard:dev", "--port=8080"},
		{"patch", "deployment", name, "-p", readinessPatch},
		{"scale", "deployment", name, fmt.Sprint("--replicas=", replicas)},
		{"expose", "deployment", name},
		{"rollout", "status", "deployment/" + name, "--timeout=" + startLimit.String()},
		{"get", "pods", "-l", selector, "-o", "wide"},
	} {
		if _, err := w.Kubectl(ctx, args...); err != nil {
			return "", err
		}
	}
	// The rollout is complete while pods of the first, unpatched template end.
	err := lab.Eventually(ctx, startLimit, func() error {
		pods, err := w.pods(ctx)
		if err == nil && len(pods) != replicas {
			err = fmt.Errorf("%d pods, want %d", len(pods), replicas)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d pods are ready", replicas), nil
}

func services(ctx context.Context, w *walk) (string, error) {
	out, err := w.Kubectl(ctx, "get", "services", "-o", "wide")
	if err != nil {
		return "", err
	}
	service, err := w.Client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	ip, err := netip.ParseAddr(service.Spec.ClusterIP)
	if err != nil {
		return "", fmt.Errorf("cluster IP of %s: %w", name, err)
	}
	if !strings.Contains(out, ip.String()) || !strings.Contains(out, selector) {
		return "", fmt.Errorf("the list does not show %s with %s and %s", name, ip, selector)
	}
	w.ip = ip.String()
	return fmt.Sprintf("%s is %s", name, ip), nil
}

func endpoints(ctx context.Context, w *walk) (string, error) {
	pods, err := w.pods(ctx)
	if err != nil {
		return "", err
	}
	var want []string
	for _, p := range pods {
		want = append(want, p.Status.PodIP)
	}
	err = lab.Eventually(ctx, settleLimit, func() error { return w.endpointsAre(ctx, want) })
	if err != nil {
		return "", err
	}
	out, err := w.Kubectl(ctx, "describe", "endpoints", name)
	if err != nil {
		return "", err
	}
	for _, ip := range want {
		if !strings.Contains(out, ip) {
			return "", fmt.Errorf("describe endpoints does not show %s", ip)
		}
	}
	if _, err := w.Kubectl(ctx, "get", "endpointslices", "-l", discoveryv1.LabelServiceName+"="+name); err != nil {
		return "", err
	}
	return fmt.Sprintf("Endpoints and EndpointSlices have the %d pods", len(want)), nil
}

// endpointsAre says how the ready addresses of alpaca-prod, in its
// EndpointSlices and in its Endpoints, differ from want.
func (w *walk) endpointsAre(ctx context.Context, want []string) error {
	slices, err := w.Client.DiscoveryV1().EndpointSlices(namespace).List(ctx,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	if err != nil {
		return err
	}
	var inSlices, inEndpoints []string
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && *e.Conditions.Ready {
				inSlices = append(inSlices, e.Addresses...)
			}
		}
	}
	// Endpoints are deprecated, but users look at them, so they have to be right.
	eps, err := w.Client.CoreV1().Endpoints(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, s := range eps.Subsets {
		for _, a := range s.Addresses {
			inEndpoints = append(inEndpoints, a.IP)
		}
	}
	return errors.Join(sameSet("ready in EndpointSlices", inSlices, want), sameSet("ready in Endpoints", inEndpoints, want))
}

// pods returns the pods of alpaca-prod, those that are ending included.
func (w *walk) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := w.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}
