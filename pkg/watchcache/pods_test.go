package watchcache

import (
	"maps"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/signpost-dev/signpost/pkg/model"
)

func newPods() *Pods {
	return &Pods{byName: map[model.Name]placed{}, byAddr: map[netip.Addr][]*model.Pod{}}
}

func apiPod(name, uid string, addrs ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid)},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, a := range addrs {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
	}
	return p
}

func wantUID(t *testing.T, p *Pods, addr, uid string) {
	t.Helper()
	pod, got := p.PodAt(netip.MustParseAddr(addr)), ""
	if pod != nil {
		got = pod.UID
	}
	if got != uid {
		t.Errorf("at %s is pod %q, want %q", addr, got, uid)
	}
}

func TestPodsAreFoundByAddress(t *testing.T) {
	p := newPods()
	p.changed(apiPod("web", "u1", "10.1.0.5", "fd00::5"))
	wantUID(t, p, "10.1.0.5", "u1")
	wantUID(t, p, "fd00::5", "u1")
	wantUID(t, p, "10.1.0.6", "")
	p.changed(apiPod("web", "u1", "10.1.0.6"))
	wantUID(t, p, "10.1.0.5", "")
	wantUID(t, p, "fd00::5", "")
	wantUID(t, p, "10.1.0.6", "u1")
	p.gone(apiPod("web", "u1", "10.1.0.6"))
	wantUID(t, p, "10.1.0.6", "")
	if len(p.byName)+len(p.byAddr) != 0 {
		t.Errorf("left are %v and %v", p.byName, p.byAddr)
	}
}

// TestAddressOfTwoPods: the network gives an address to the next pod while the one
// before is still listed.
func TestAddressOfTwoPods(t *testing.T) {
	p := newPods()
	p.changed(apiPod("old", "u1", "10.1.0.5"))
	p.changed(apiPod("new", "u2", "10.1.0.5"))
	wantUID(t, p, "10.1.0.5", "")
	p.gone(toolscache.DeletedFinalStateUnknown{Key: "shop/old", Obj: apiPod("old", "u1", "10.1.0.5")})
	wantUID(t, p, "10.1.0.5", "u2")
}

// TestPodsThatShareTheNodesAddress have it, and nobody knows them by it.
func TestPodsThatShareTheNodesAddress(t *testing.T) {
	p := newPods()
	changes := p.Subscribe()
	p.changed(apiPod("web", "u1", "10.1.0.5"))
	<-changes
	shared := apiPod("proxy", "u2", "192.0.2.1")
	shared.Spec.HostNetwork = true
	p.changed(shared)
	<-changes
	wantUID(t, p, "192.0.2.1", "")
	before := p.Addresses()
	want := map[model.PodAddress]struct{}{
		{Namespace: "shop", Addr: netip.MustParseAddr("10.1.0.5")}:  {},
		{Namespace: "shop", Addr: netip.MustParseAddr("192.0.2.1")}: {},
	}
	if !maps.Equal(before, want) {
		t.Errorf("addresses: %v, want %v", before, want)
	}
	p.gone(shared)
	<-changes
	if n := len(p.Addresses()); n != 1 || len(before) != 2 {
		t.Errorf("%d addresses, want 1; of those from before %d are left", n, len(before))
	}
}

// TestPodIsTheSameUntilItChanges: who remembers something of a pod knows it by the
// pointer.
func TestPodIsTheSameUntilItChanges(t *testing.T) {
	p := newPods()
	p.changed(apiPod("web-0", "u1", "10.1.0.5"))
	was := p.PodAt(netip.MustParseAddr("10.1.0.5"))
	touched := apiPod("web-0", "u1", "10.1.0.5")
	touched.ResourceVersion = "7"
	p.changed(touched)
	if p.PodAt(netip.MustParseAddr("10.1.0.5")) != was {
		t.Error("another pod after a change that does not matter")
	}
	p.changed(apiPod("web-0", "u2", "10.1.0.5")) // a StatefulSet made it again
	if p.PodAt(netip.MustParseAddr("10.1.0.5")) == was {
		t.Error("the same pod after it was made again")
	}
}
