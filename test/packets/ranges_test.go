//go:build integration

package packets

import (
	"net/netip"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// checkRanges adds a range of cluster IPs to the cluster while the system runs, and takes it away again. An
// address in it that no Service has refuses as long as there is the range; with kube-proxy it is
// silent all the time, see differences.
func (r *rig) checkRanges(c client.Client) {
	r.t.Helper()
	to := []netip.AddrPort{netip.MustParseAddrPort("10.97.0.7:80"), netip.MustParseAddrPort("[fd00:97::7]:80")}
	within := refused
	if r.system.mode != "" {
		within = silence
	}
	more := &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: "more"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/24", "fd00:97::/112"}},
	}
	r.await("before the range", to, silence)
	if err := c.Create(r.t.Context(), more); err != nil {
		r.t.Fatal(err)
	}
	r.await("in the range", to, within)
	if err := c.Delete(r.t.Context(), more); err != nil {
		r.t.Fatal(err)
	}
	r.await("after the range", to, silence)
}

// await waits until the client gets what it should at all addresses.
func (r *rig) await(when string, to []netip.AddrPort, want string) {
	r.t.Helper()
	const limit = 10 * time.Second
	for _, at := range to {
		for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
			got := r.ask(probe{"client", "", want}, "tcp", at)
			if got == want {
				break
			}
			if time.Now().After(end) {
				r.t.Errorf("%s, %s: %s after %v, want %s", when, at, got, limit, want)
				break
			}
		}
	}
}
