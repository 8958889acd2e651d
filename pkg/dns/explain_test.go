package dns

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

func TestAnswersAreExplained(t *testing.T) {
	_, _, addr := startServer(t, nil)
	for _, network := range []string{"udp", "tcp"} {
		r := request("Web.default.svc.cluster.local.", dns.TypeTXT, 1232)
		r.Question[0].Qclass = dns.ClassCHAOS
		m, _ := ask(t, network, addr, r)
		var facts []string
		for _, rr := range m.Answer {
			txt, ok := rr.(*dns.TXT)
			if !ok || txt.Hdr.Class != dns.ClassCHAOS || txt.Hdr.Ttl != 0 {
				t.Fatalf("%s: got %v", network, rr)
			}
			facts = append(facts, txt.Txt...)
		}
		if got := strings.Join(facts, "\n"); m.Rcode != dns.RcodeSuccess || !strings.Contains(got, "Service default/web: cluster IPs [10.96.0.10 fd00:96::10]") {
			t.Errorf("%s: %s\n%s", network, rcodeText(m.Rcode), got)
		}
	}
}

func TestOtherNamesAreRefused(t *testing.T) {
	_, _, addr := startServer(t, nil)
	r := request("version.bind.", dns.TypeTXT, 0)
	r.Question[0].Qclass = dns.ClassCHAOS
	if m, _ := ask(t, "udp", addr, r); m.Rcode != dns.RcodeRefused || len(m.Answer) > 0 {
		t.Errorf("got %v", m)
	}
}

// journal is a log to read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// TestQueriesAreLogged also those that are answered from what is kept packed.
func TestQueriesAreLogged(t *testing.T) {
	j, clients := &journal{}, &fakeClients{}
	clients.pod.Store(shopPod())
	_, _, addr := startServer(t, func(o *Options) { o.QueryLog, o.Log = clients, slog.New(slog.NewTextHandler(j, nil)) })
	const times = 3
	for range times {
		ask(t, "udp", addr, request("web.default.svc.cluster.local.", dns.TypeA, 0))
		ask(t, "tcp", addr, request("nobody.default.svc.cluster.local.", dns.TypeAAAA, 0))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, want := range []string{
		"client=127.0.0.1 pod=shop/web-0 name=web.default.svc.cluster.local. type=A rcode=NOERROR source=kubernetes answers=1",
		"client=127.0.0.1 pod=shop/web-0 name=nobody.default.svc.cluster.local. type=AAAA rcode=NXDOMAIN source=kubernetes answers=0",
	} {
		if n := strings.Count(j.text.String(), want); n != times {
			t.Errorf("%d times, want %d: %s\n%s", n, times, want, j.text.String())
		}
	}
}
