package records

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

func podView(t *testing.T, mode PodMode, pods ...model.PodAddress) *View {
	t.Helper()
	v, err := New(Options{Domain: "cluster.local", TTL: 5, Pods: mode, Server: kubeDNS})
	if err != nil {
		t.Fatal(err)
	}
	s := snapshotOf(cluster())
	s.Pods = map[model.PodAddress]struct{}{}
	for _, p := range pods {
		s.Pods[p] = struct{}{}
	}
	return v.Next(s, 1)
}

func podAt(namespace, addr string) model.PodAddress {
	return model.PodAddress{Namespace: namespace, Addr: netip.MustParseAddr(addr)}
}

// TestPodModes: the same questions in each mode.
func TestPodModes(t *testing.T) {
	const denied, noData = -1, 0
	own := []model.PodAddress{podAt("testns", "10.240.0.1"), podAt("testns", "1234:abcd::1"), podAt("nons", "10.240.0.9")}
	for _, tt := range []struct {
		name                         string
		qtype                        uint16
		disabled, insecure, verified int // how many addresses, or one of the above
	}{
		{"10-240-0-1.testns.pod.cluster.local.", dns.TypeA, denied, 1, 1},
		{"10-240-0-1.testns.pod.cluster.local.", dns.TypeAAAA, denied, noData, noData},
		{"10-240-0-1.testns.pod.cluster.local.", dns.TypeTXT, denied, noData, noData},
		{"10-240-0-1.TESTNS.Pod.cluster.local.", dns.TypeA, denied, 1, 1},
		{"1234-abcd--1.testns.pod.cluster.local.", dns.TypeAAAA, denied, 1, 1},
		// Nobody has it, or a pod of another namespace, or of one that there is not.
		{"10-240-0-2.testns.pod.cluster.local.", dns.TypeA, denied, 1, denied},
		{"10-240-0-1.kube-system.pod.cluster.local.", dns.TypeA, denied, 1, denied},
		{"10-240-0-9.nons.pod.cluster.local.", dns.TypeA, denied, denied, denied},
		// A ready endpoint, one that is not, and the address of a Service.
		{"172-0-0-2.testns.pod.cluster.local.", dns.TypeA, denied, 1, 1},
		{"172-0-0-2.kube-system.pod.cluster.local.", dns.TypeA, denied, 1, denied},
		{"172-0-0-30.testns.pod.cluster.local.", dns.TypeA, denied, 1, denied},
		{"10-0-0-1.testns.pod.cluster.local.", dns.TypeA, denied, 1, denied},
		// Names above.
		{"testns.pod.cluster.local.", dns.TypeA, denied, noData, noData},
		{"nons.pod.cluster.local.", dns.TypeA, denied, denied, denied},
		{"pod.cluster.local.", dns.TypeA, noData, noData, noData},
	} {
		for mode, want := range map[PodMode]int{PodsDisabled: tt.disabled, PodsInsecure: tt.insecure, PodsVerified: tt.verified} {
			a := podView(t, mode, own...).Answer(Question{tt.name, tt.qtype}, 0)
			got := len(a.Answer)
			if a.Rcode == dns.RcodeNameError {
				got = denied
			}
			if got != want {
				t.Errorf("%s: %s %s: %d, want %d", mode, tt.name, dns.TypeToString[tt.qtype], got, want)
			}
			if (len(a.Answer) == 0) != (len(a.Ns) == 1) {
				t.Errorf("%s: %s %s: authority %v", mode, tt.name, dns.TypeToString[tt.qtype], a.Ns)
			}
		}
	}
}
