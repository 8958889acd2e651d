package watchcache

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Pods are the pods of one node, by their addresses. Make it with NewPods.
type Pods struct {
	shared cache.Cache

	mu     sync.RWMutex
	byAddr map[netip.Addr]*model.Pod
}

// NewPods makes a watch of the pods of a node, and of what of them decides how they look
// for names. It asks the API server for nothing yet.
func NewPods(cfg *rest.Config, httpClient *http.Client, nodeName string) (*Pods, error) {
	shared, err := newCache(cfg, httpClient, nil, map[client.Object]cache.ByObject{
		&corev1.Pod{}: {Field: fields.OneTermEqualSelector("spec.nodeName", nodeName), Transform: namesOnly},
	})
	if err != nil {
		return nil, err
	}
	return &Pods{shared: shared, byAddr: map[netip.Addr]*model.Pod{}}, nil
}

// namesOnly keeps of a pod what Pod tells.
func namesOnly(in any) (any, error) {
	p, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion},
		Spec:       corev1.PodSpec{NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork, DNSPolicy: p.Spec.DNSPolicy, DNSConfig: p.Spec.DNSConfig},
		Status:     corev1.PodStatus{Phase: p.Status.Phase, PodIPs: p.Status.PodIPs},
	}, nil
}

// Run watches until ctx ends, which it returns nil for. While the API server cannot be
// reached, what was known last stands.
func (p *Pods) Run(ctx context.Context) error {
	informer, err := p.shared.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching the pods of the node: %w", err)
	}
	if _, err := informer.AddEventHandler(handler(func(old, now client.Object) { p.note(old, now) })); err != nil {
		return fmt.Errorf("watching the pods of the node: %w", err)
	}
	return p.shared.Start(ctx)
}

// note replaces what was known of a pod. handler says that one is gone by giving it twice.
func (p *Pods) note(old, now client.Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was, ok := old.(*corev1.Pod); ok && was != nil {
		for _, a := range podAddrs(was) {
			if known := p.byAddr[a]; known != nil && known.UID == string(was.UID) {
				delete(p.byAddr, a)
			}
		}
	}
	pod := now.(*corev1.Pod)
	if old == now || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return // its addresses may be another one's by now
	}
	out := translatePod(pod)
	for _, a := range podAddrs(pod) {
		p.byAddr[a] = out
	}
}

func podAddrs(p *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

func translatePod(p *corev1.Pod) *model.Pod {
	out := &model.Pod{
		Name: model.Name{Namespace: p.Namespace, Name: p.Name}, UID: string(p.UID),
		HostNetwork: p.Spec.HostNetwork, DNSPolicy: string(p.Spec.DNSPolicy),
	}
	if c := p.Spec.DNSConfig; c != nil {
		out.Searches = c.Searches
		for _, o := range c.Options {
			option := model.ResolverOption{Name: o.Name}
			if o.Value != nil {
				option.Value = *o.Value
			}
			out.ResolverOptions = append(out.ResolverOptions, option)
		}
	}
	return out
}

// Pod returns the pod of the node that has the address, or nil. Those that share the
// node's own addresses have none that they are known by. It may be called from any goroutine.
func (p *Pods) Pod(a netip.Addr) *model.Pod {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if pod := p.byAddr[a]; pod != nil && !pod.HostNetwork {
		return pod
	}
	return nil
}
