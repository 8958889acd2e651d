package chapter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	signpostv1alpha1 "github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/test/chapter/lab"
)

const (
	internalName = "alpaca-internal"
	publicPool   = "chapter-public"
	internalPool = "chapter-internal"
	// announceLimit bounds the time until some node answers for a new address: it asks
	// first whether anybody has it.
	announceLimit = 20 * time.Second
)

// noPools leaves no pool of an earlier walk.
func (w *walk) noPools(ctx context.Context) error {
	_, err := w.Kubectl(ctx, "delete", "--ignore-not-found", "loadbalancerpool/"+publicPool, "loadbalancerpool/"+internalPool)
	return err
}

// pending asks for a load balancer where there are no addresses for one.
func pending(ctx context.Context, w *walk) (string, error) {
	if _, err := w.Kubectl(ctx, "patch", "service", name, "-p", `{"spec":{"type":"LoadBalancer"}}`); err != nil {
		return "", err
	}
	reason := ""
	err := lab.Eventually(ctx, settleLimit, func() error {
		service, err := w.Client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(service.Status.Conditions, signpostv1alpha1.ConditionAddressAssigned)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != signpostv1alpha1.ReasonNoPool {
			return fmt.Errorf("condition %s: %+v, want %s", signpostv1alpha1.ConditionAddressAssigned, c, signpostv1alpha1.ReasonNoPool)
		}
		reason = c.Message
		return nil
	})
	if err != nil {
		return "", err
	}
	out, err := w.Kubectl(ctx, "get", "service", name)
	if err != nil {
		return "", err
	}
	if !strings.Contains(out, "<pending>") {
		return "", errors.New("kubectl does not say <pending>")
	}
	if out, err = w.Kubectl(ctx, "events", "--for", "service/"+name); err != nil {
		return "", err
	}
	if !strings.Contains(out, signpostv1alpha1.ReasonNoPool) {
		return "", errors.New("no event tells the reason")
	}
	return "<pending>: " + reason, nil
}

// pool gives the load balancer an address, and asks there from outside.
func pool(ctx context.Context, w *walk) (string, error) {
	first, err := w.applyPool(ctx, publicPool, "Public", 200, 209)
	if err != nil {
		return "", err
	}
	begin := time.Now()
	addr, err := w.loadBalancerAddress(ctx, name)
	if err != nil {
		return "", err
	}
	assigned := time.Since(begin)
	if addr != first {
		return "", fmt.Errorf("%s has %s, want %s, the first of its pool", name, addr, first)
	}
	if err := w.reached(ctx, addr); err != nil {
		return "", err
	}
	answered := time.Since(begin)
	return fmt.Sprintf("%s after %d ms, answered from outside after %.1f s", addr, assigned.Milliseconds(), answered.Seconds()), nil
}

// internal asks for a second load balancer in the words of a cloud.
func internal(ctx context.Context, w *walk) (string, error) {
	first, err := w.applyPool(ctx, internalPool, "Internal", 210, 219)
	if err != nil {
		return "", err
	}
	_, err = w.Apply(ctx, namespace, `
apiVersion: v1
kind: Service
metadata:
  name: `+internalName+`
  annotations: {networking.gke.io/load-balancer-type: Internal}
spec:
  type: LoadBalancer
  selector: {app: alpaca-prod}
  ports: [{port: 8080}]`)
	if err != nil {
		return "", err
	}
	addr, err := w.loadBalancerAddress(ctx, internalName)
	if err != nil {
		return "", err
	}
	if addr != first {
		return "", fmt.Errorf("%s has %s, want %s, the first of the internal pool", internalName, addr, first)
	}
	if err := w.reached(ctx, addr); err != nil {
		return "", err
	}
	_, err = w.Kubectl(ctx, "delete", "service", internalName)
	return addr.String() + " is from the internal pool", err
}

// applyPool makes a pool of these addresses of the nodes' network, by their last
// octet, and returns the first one.
func (w *walk) applyPool(ctx context.Context, pool, scope string, first, last byte) (netip.Addr, error) {
	nodes, err := w.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return netip.Addr{}, err
	}
	node, err := netip.ParseAddr(nodes.Items[0].Status.Addresses[0].Address)
	if err != nil || !node.Is4() {
		return netip.Addr{}, fmt.Errorf("the first node's address: %s: %w", node, err)
	}
	b := node.As4()
	at := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{b[0], b[1], b[2], last}) }
	_, err = w.Apply(ctx, namespace, fmt.Sprintf(`
apiVersion: signpost.dev/v1alpha1
kind: LoadBalancerPool
metadata: {name: %s}
spec:
  scope: %s
  addresses: [%s-%s]`, pool, scope, at(first), at(last)))
	return at(first), err
}

// loadBalancerAddress waits for the Service's address.
func (w *walk) loadBalancerAddress(ctx context.Context, service string) (addr netip.Addr, err error) {
	err = lab.Eventually(ctx, settleLimit, func() error {
		s, err := w.Client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(s.Status.LoadBalancer.Ingress) == 0 {
			return fmt.Errorf("%s has no address: %+v", service, s.Status.Conditions)
		}
		addr, err = netip.ParseAddr(s.Status.LoadBalancer.Ingress[0].IP)
		return err
	})
	if err != nil {
		return addr, err
	}
	_, err = w.Kubectl(ctx, "get", "service", service)
	return addr, err
}

// reached asks at a load balancer's address from outside, once some node answers for it.
func (w *walk) reached(ctx context.Context, addr netip.Addr) error {
	url := fmt.Sprintf("http://%s/", netip.AddrPortFrom(addr, 8080))
	err := lab.Eventually(ctx, announceLimit, func() error {
		_, err := w.Outside(ctx, "curl", "-sS", "--max-time", "1", "-o", "/dev/null", url)
		return err
	})
	if err != nil {
		return err
	}
	out, err := w.Outside(ctx, loop(requests/2, url)...)
	if err != nil {
		return err
	}
	if _, err := w.spread(ctx, out, requests/2); err != nil {
		return err
	}
	if _, err := w.Outside(ctx, "ip", "neighbour", "show", addr.String()); err != nil {
		return err
	}
	_, err = w.Kubectl(ctx, "get", "loadbalancerpools")
	return err
}
