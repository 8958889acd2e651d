package translate

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/signpost-dev/signpost/pkg/model"
)

func TestPod(t *testing.T) {
	pod := func(edit func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: "u1"},
			Spec:       corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.1.0.5"}, {IP: "fd00::5"}}},
		}
		if edit != nil {
			edit(p)
		}
		return p
	}
	plain := model.Pod{Name: model.Name{Namespace: "shop", Name: "web-0"}, UID: "u1", DNSPolicy: "ClusterFirst"}
	both := []netip.Addr{netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00::5")}
	configured := plain
	configured.DNSPolicy, configured.Searches = "None", []string{"corp.example"}
	configured.Options = []model.ResolverOption{{Name: "ndots", Value: "2"}, {Name: "edns0"}}
	shared := plain
	shared.HostNetwork = true
	for _, tt := range []struct {
		name  string
		edit  func(*corev1.Pod)
		pod   *model.Pod
		addrs []netip.Addr
	}{
		{name: "running, both families", pod: &plain, addrs: both},
		{name: "its addresses are the node's", edit: func(p *corev1.Pod) { p.Spec.HostNetwork = true }, pod: &shared, addrs: both},
		{name: "it has ended well", edit: func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }},
		{name: "it has failed", edit: func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }},
		{name: "it has no address yet", edit: func(p *corev1.Pod) { p.Status.PodIPs = nil }},
		{name: "its address cannot be read", edit: func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "x"}} }},
		{name: "one address twice", edit: func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.1.0.5"}, {IP: "::ffff:10.1.0.5"}} },
			pod: &plain, addrs: both[:1]},
		{name: "a resolv.conf of its own", edit: func(p *corev1.Pod) {
			p.Spec.DNSPolicy = corev1.DNSNone
			p.Spec.DNSConfig = &corev1.PodDNSConfig{
				Searches: []string{"corp.example"},
				Options:  []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}, {Name: "edns0"}},
			}
		}, pod: &configured, addrs: both},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, addrs := Pod(pod(tt.edit))
			if diff := cmp.Diff(tt.pod, got); diff != "" {
				t.Errorf("pod (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.addrs, addrs, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}
