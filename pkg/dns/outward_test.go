package dns

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/dns/outside"
	"github.com/signpost-dev/signpost/pkg/model"
)

// startOutward runs an Outward at a free port of 127.0.0.1, for a cluster whose Service
// default/web has an address.
func startOutward(t *testing.T) netip.AddrPort {
	t.Helper()
	zone, err := outside.New("lb.example.org", 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := cluster()
	name := model.Name{Namespace: "default", Name: "web"}
	web := *s.Services.Get(name)
	web.LoadBalancerIPs = parseAddrs("192.0.2.7")
	s.Services = s.Services.With(map[model.Name]*model.Service{name: &web})
	s.Node.Addrs = parseAddrs("127.0.0.1")
	port := freePort(t)
	o := NewOutward(OutwardOptions{
		Snapshots: &fakeSnapshots{current: s}, Zone: zone, Port: port, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	waitFor(t, "the port", func() bool {
		c := &dns.Client{Net: "tcp"}
		_, _, err := c.Exchange(request("lb.example.org.", dns.TypeSOA, 0), at.String())
		return err == nil
	})
	return at
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	return l.addr.Port()
}

// TestOnlyTheZoneIsForTheWorld also where the cluster's own names, those of others, and
// transfers are asked for.
func TestOnlyTheZoneIsForTheWorld(t *testing.T) {
	at := startOutward(t)
	chaos := func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }
	version1 := func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }
	update := func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }
	for _, tt := range []struct {
		name  string
		qtype uint16
		edit  func(*dns.Msg)
		rcode int
		want  []string
	}{
		{"web.default.lb.example.org.", dns.TypeA, nil, dns.RcodeSuccess, []string{"web.default.lb.example.org. 5 IN A 192.0.2.7"}},
		{"web.default.lb.example.org.", dns.TypeAAAA, nil, dns.RcodeSuccess, nil},
		{"big.default.lb.example.org.", dns.TypeA, nil, dns.RcodeNameError, nil},
		{"web.default.svc.cluster.local.", dns.TypeA, nil, dns.RcodeRefused, nil},
		{"www.example.org.", dns.TypeA, nil, dns.RcodeRefused, nil},
		{"10.0.96.10.in-addr.arpa.", dns.TypePTR, nil, dns.RcodeRefused, nil},
		{"lb.example.org.", dns.TypeAXFR, nil, dns.RcodeRefused, nil},
		{"web.default.lb.example.org.", dns.TypeTXT, chaos, dns.RcodeRefused, nil},
		{"web.default.lb.example.org.", dns.TypeA, version1, dns.RcodeBadVers, nil},
		{"web.default.lb.example.org.", dns.TypeA, update, dns.RcodeNotImplemented, nil},
	} {
		for _, network := range []string{"udp", "tcp"} {
			r := request(tt.name, tt.qtype, 0)
			if tt.edit != nil {
				tt.edit(r)
			}
			m, _ := ask(t, network, at, r)
			wantRecords(t, m, tt.rcode, tt.want...)
			if m.RecursionAvailable || m.Authoritative != (tt.rcode == dns.RcodeSuccess || tt.rcode == dns.RcodeNameError) {
				t.Errorf("%s over %s: flags %+v", tt.name, network, m.MsgHdr)
			}
		}
	}
}
