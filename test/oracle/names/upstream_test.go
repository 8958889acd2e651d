//go:build integration

package names

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/test/netlab"
)

const (
	// upstreamZone is the one domain that the upstream resolver of the test knows; of
	// others it says what the root would, that they do not exist.
	upstreamZone = "upstream.test."
	// upstreamPointer is the name of an address that is not the cluster's.
	upstreamPointer = "8.113.0.203.in-addr.arpa."
)

// startUpstream starts a resolver on the loopback of a namespace, or of this
// process's if pod is nil.
func startUpstream(t *testing.T, pod *netlab.Namespace) netip.AddrPort {
	t.Helper()
	var packets net.PacketConn
	var stream net.Listener
	// Another program may have the TCP port of the number that the kernel chose.
	listen := func() (err error) {
		for range 20 {
			if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
				return err
			}
			if stream, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
				return nil
			}
			_ = packets.Close()
		}
		return err
	}
	do := func(f func() error) error { return f() }
	if pod != nil {
		do = pod.Do
	}
	if err := do(listen); err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets}, {Listener: stream}} {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { _ = w.WriteMsg(upstreamAnswer(r)) })
		var running sync.WaitGroup
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		running.Go(func() {
			if err := server.ActivateAndServe(); err != nil {
				t.Error(err)
			}
		})
		<-started
		t.Cleanup(func() {
			if err := server.Shutdown(); err != nil {
				t.Error(err)
			}
			running.Wait()
		})
	}
	return packets.LocalAddr().(*net.UDPAddr).AddrPort()
}

// upstreamRecords returns all that the resolver knows.
func upstreamRecords() []dns.RR {
	header := func(name string, rrtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: 60}
	}
	return []dns.RR{
		&dns.CNAME{Hdr: header("alias.upstream.test.", dns.TypeCNAME), Target: "www.upstream.test."},
		&dns.A{Hdr: header("www.upstream.test.", dns.TypeA), A: net.IPv4(203, 0, 113, 80)},
		&dns.AAAA{Hdr: header("www.upstream.test.", dns.TypeAAAA), AAAA: net.ParseIP("2001:db8::80")},
		&dns.A{Hdr: header("four.upstream.test.", dns.TypeA), A: net.IPv4(203, 0, 113, 4)},
		&dns.PTR{Hdr: header(upstreamPointer, dns.TypePTR), Ptr: "host.upstream.test."},
	}
}

func upstreamAnswer(request *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(request)
	m.RecursionAvailable = true
	name, qtype := request.Question[0].Name, request.Question[0].Qtype
	if strings.EqualFold(name, "broken.upstream.test.") {
		m.Rcode = dns.RcodeServerFailure
		return m
	}
	m.Rcode = dns.RcodeNameError
	for _, rr := range upstreamRecords() {
		if !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		m.Rcode = dns.RcodeSuccess
		rr.Header().Name = name
		switch rr := rr.(type) {
		case *dns.CNAME:
			// What it leads to is further down in the list.
			m.Answer, name = append(m.Answer, rr), rr.Target
		default:
			if rr.Header().Rrtype == qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	if len(m.Answer) == 0 {
		apex := "."
		if dns.IsSubDomain(upstreamZone, request.Question[0].Name) {
			apex = upstreamZone
		}
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: apex, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
			Ns:  "ns." + upstreamZone, Mbox: "hostmaster." + upstreamZone,
			Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: 60,
		}}
	}
	return m
}
