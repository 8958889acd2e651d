package records

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestExplain(t *testing.T) {
	v := viewOf(t, cluster())
	for _, tt := range []struct {
		name  string
		qtype uint16
		want  []string
	}{
		{"svc1.testns.svc.cluster.local.", dns.TypeA, []string{"A: NOERROR, 1 records", "Service testns/svc1: cluster IPs [10.0.0.1], 2 of 3 endpoints ready"}},
		{"hdlsunready.testns.svc.cluster.local.", dns.TypeA, []string{"A: NXDOMAIN, 0 records", "Service testns/hdlsunready: headless, 0 of 1 endpoints ready"}},
		{"nobody.testns.svc.cluster.local.", dns.TypeA, []string{"A: NXDOMAIN, 0 records", "Service testns/nobody: does not exist"}},
		{"nowhere.svc.cluster.local.", dns.TypeA, []string{"A: NXDOMAIN, 0 records", "namespace nowhere: does not exist"}},
		{"external.testns.svc.cluster.local.", dns.TypeA, []string{
			"A: NOERROR, 1 records, and what ext.interwebs.test. has elsewhere", "Service testns/external: external name ext.interwebs.test"}},
		{"toservice.testns.svc.cluster.local.", dns.TypeA, []string{
			"A: NOERROR, 2 records", "Service testns/toservice: external name svc1.testns.svc.cluster.local",
			"Service testns/svc1: cluster IPs [10.0.0.1], 2 of 3 endpoints ready"}},
		{"1.0.0.10.in-addr.arpa.", dns.TypePTR, []string{"PTR: NOERROR, 1 records", "10.0.0.1: cluster IP of Service testns/svc1"}},
		{"20.0.0.172.in-addr.arpa.", dns.TypePTR, []string{"PTR: NOERROR, 1 records", "172.0.0.20: ready endpoint of Service testns/hdlsprtls"}},
	} {
		want := append([]string{"snapshot 0"}, tt.want...)
		if diff := cmp.Diff(want, v.Explain(Question{Name: tt.name, Type: tt.qtype})); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
	}
}

func TestOtherNamesAreNotExplained(t *testing.T) {
	v := viewOf(t, cluster())
	for _, name := range []string{"www.example.org.", "version.bind.", "1.2.0.192.in-addr.arpa."} {
		if got := v.Explain(Question{Name: name, Type: dns.TypePTR}); got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestExplainBeforeTheFirstSnapshot(t *testing.T) {
	v, err := New(Options{Domain: "cluster.local"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"nothing is known of the cluster yet", "A: SERVFAIL, 0 records"}
	if diff := cmp.Diff(want, v.Explain(Question{Name: "a.b.svc.cluster.local.", Type: dns.TypeA})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
