package dns

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

func TestClients(t *testing.T) {
	node := model.Node{Addrs: parseAddrs("203.0.113.7", "2001:db8:1:2::7"), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("198.18.4.0/22")}}
	check := func(t *testing.T, ranges []netip.Prefix, wants map[string]bool) {
		for client, want := range wants {
			if got := isClient(netip.MustParseAddr(client), node, ranges); got != want {
				t.Errorf("%s: %v, want %v", client, got, want)
			}
		}
	}
	t.Run("by default", func(t *testing.T) {
		check(t, nil, map[string]bool{
			"10.1.2.3": true, "192.168.1.1": true, "172.16.0.1": true, "100.64.0.1": true, "127.0.0.1": true, "169.254.1.1": true,
			"fd00::1": true, "fe80::1": true, "fe80::1%eth0": true,
			"203.0.113.99": true, "198.18.7.1": true, "2001:db8:1:ff::1": true,
			"203.0.114.7": false, "198.18.9.1": false, "8.8.8.8": false, "2001:db8:1:ff00::1": false, "100.128.0.1": false,
		})
	})
	t.Run("with ranges", func(t *testing.T) {
		check(t, []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, map[string]bool{
			"10.244.1.2": true, "127.0.0.1": true, "203.0.113.7": true, "2001:db8:1:2::7": true, "198.18.7.1": true,
			"10.1.2.3": false, "192.168.1.1": false, "203.0.113.99": false, "fd00::1": false, "2001:db8:1:2::8": false,
		})
	})
}

// TestOthersAreRefused asks as somebody who may not, also for what is kept packed.
func TestOthersAreRefused(t *testing.T) {
	u := startUpstream(t)
	s, _ := newServer(t, u.option)
	s.publish(time.Now())
	socket, at := newSocket(t, s, "127.0.0.1")
	client, _ := listenUDP(t, "127.0.0.1")
	buf := make([]byte, 4096)
	for _, may := range []bool{true, true, false} {
		socket.allowed = func(netip.Addr) bool { return may }
		if _, err := client.WriteToUDPAddrPort(hotRequest(t, "web.default.svc.cluster.local."), at); err != nil {
			t.Fatal(err)
		}
		socket.turn(t)
		n, _, err := client.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatal(err)
		}
		if may {
			wantRecords(t, m, dns.RcodeSuccess, "web.default.svc.cluster.local. 5 IN A 10.96.0.10")
		} else {
			wantRecords(t, m, dns.RcodeRefused)
		}
	}
	if _, err := client.WriteToUDPAddrPort(hotRequest(t, "www.example.org."), at); err != nil {
		t.Fatal(err)
	}
	socket.turn(t)
	if n := u.asked("www.example.org."); n != 0 {
		t.Errorf("upstream was asked %d times for somebody who may not", n)
	}
}
