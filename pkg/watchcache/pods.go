package watchcache

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/watchcache/translate"
)

// Pods knows the pods of one node by their addresses. Its watch is of that node's
// pods only. PodAt may be called from any goroutine.
type Pods struct {
	shared cache.Cache

	mu     sync.RWMutex
	byName map[model.Name]placed
	// byAddr is of those that do not share the node's addresses.
	byAddr      map[netip.Addr][]*model.Pod
	addresses   map[model.PodAddress]struct{} // replaced, never changed
	subscribers []chan struct{}
}

// placed is a pod and where it is in byAddr.
type placed struct {
	pod   *model.Pod
	addrs []netip.Addr
}

// NewPods makes a Pods of the node of that name. It asks the API server for
// nothing yet.
func NewPods(cfg *rest.Config, httpClient *http.Client, nodeName string) (*Pods, error) {
	selector := fields.AndSelectors(
		fields.OneTermEqualSelector("spec.nodeName", nodeName),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
	shared, err := newCache(cfg, httpClient, nil, map[client.Object]cache.ByObject{
		&corev1.Pod{}: {Field: selector, Transform: searchOnly},
	})
	if err != nil {
		return nil, err
	}
	return &Pods{shared: shared, byName: map[model.Name]placed{}, byAddr: map[netip.Addr][]*model.Pod{}}, nil
}

// Run watches until ctx ends, which it returns nil for. While the API server
// cannot be reached, what was known stands.
func (p *Pods) Run(ctx context.Context) error {
	informer, err := p.shared.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching the pods of this node: %w", err)
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    p.changed,
		UpdateFunc: func(_, now any) { p.changed(now) },
		DeleteFunc: p.gone,
	}); err != nil {
		return fmt.Errorf("watching the pods of this node: %w", err)
	}
	return p.shared.Start(ctx)
}

// PodAt returns the pod of this node that has the address, or nil: if there is none
// or it is not known yet, and also if there are two (one is about to go, or both
// share the node's) and nobody can tell who asks. What it returns is the same as long as what it
// says of the pod is.
func (p *Pods) PodAt(a netip.Addr) *model.Pod {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if pods := p.byAddr[a]; len(pods) == 1 {
		return pods[0]
	}
	return nil
}

func (p *Pods) changed(o any) {
	if api, ok := o.(*corev1.Pod); ok {
		pod, addrs := translate.Pod(api)
		p.set(translate.NameOf(api), pod, addrs)
	}
}

func (p *Pods) gone(o any) {
	if final, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = final.Obj
	}
	if api, ok := o.(*corev1.Pod); ok {
		p.set(translate.NameOf(api), nil, nil)
	}
}

// Addresses returns the addresses of all pods of the node. The map must not be
// changed, and is the same as long as they are.
func (p *Pods) Addresses() map[model.PodAddress]struct{} {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.addresses
}

// Subscribe returns a new channel that receives after each change of Addresses. It
// holds one signal.
func (p *Pods) Subscribe() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	ch := make(chan struct{}, 1)
	p.subscribers = append(p.subscribers, ch)
	return ch
}

// set makes pod, which may be nil, the one of that name.
func (p *Pods) set(name model.Name, pod *model.Pod, addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.byName[name]
	if reflect.DeepEqual(was.pod, pod) && slices.Equal(was.addrs, addrs) {
		return
	}
	for _, a := range was.addrs {
		p.byAddr[a] = slices.DeleteFunc(p.byAddr[a], func(o *model.Pod) bool { return o == was.pod })
		if len(p.byAddr[a]) == 0 {
			delete(p.byAddr, a)
		}
	}
	if pod == nil {
		delete(p.byName, name)
	} else {
		p.byName[name] = placed{pod, addrs}
		for _, a := range addrs {
			if !pod.HostNetwork {
				p.byAddr[a] = append(p.byAddr[a], pod)
			}
		}
	}
	p.publish()
}

// publish makes Addresses what they are now. A node has a few hundred.
func (p *Pods) publish() {
	now := make(map[model.PodAddress]struct{}, len(p.byName))
	for name, is := range p.byName {
		for _, a := range is.addrs {
			now[model.PodAddress{Namespace: name.Namespace, Addr: a}] = struct{}{}
		}
	}
	if maps.Equal(now, p.addresses) {
		return
	}
	p.addresses = now
	for _, ch := range p.subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// searchOnly keeps what translate.Pod reads.
func searchOnly(in any) (any, error) {
	pod, ok := in.(*corev1.Pod)
	if !ok {
		return in, nil
	}
	return &corev1.Pod{
		TypeMeta: pod.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Spec:   corev1.PodSpec{HostNetwork: pod.Spec.HostNetwork, DNSPolicy: pod.Spec.DNSPolicy, DNSConfig: pod.Spec.DNSConfig},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, PodIPs: pod.Status.PodIPs},
	}, nil
}
