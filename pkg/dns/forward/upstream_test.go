package forward

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func texts(in []netip.AddrPort) []string {
	var out []string
	for _, a := range in {
		out = append(out, a.String())
	}
	return out
}

func TestParseServer(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":           "192.0.2.1:53",
		"192.0.2.1:5353":      "192.0.2.1:5353",
		"2001:db8::1":         "[2001:db8::1]:53",
		"[2001:db8::1]":       "[2001:db8::1]:53",
		"[2001:db8::1]:5353":  "[2001:db8::1]:5353",
		"fe80::1%eth0":        "[fe80::1%eth0]:53",
		"::ffff:192.0.2.1":    "192.0.2.1:53",
		"dns.example.org":     "",
		"192.0.2.1:0":         "",
		"192.0.2.1:dns":       "",
		"tls:192.0.2.1":       "",
		"":                    "",
		"192.0.2.1 192.0.2.2": "",
	} {
		got, err := parseServer(in)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("parseServer(%q) = %v, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseResolvConf(t *testing.T) {
	const text = `# nameserver 192.0.2.9
; nameserver 192.0.2.8
search example.org svc.cluster.local
options ndots:5
nameserver 192.0.2.1
	nameserver	2001:db8::1   # with a comment
nameserver
nameserver bogus
nameserver fe80::1%eth0
nameserver 192.0.2.1`
	want := []string{"192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%eth0]:53", "192.0.2.1:53"}
	if diff := cmp.Diff(want, texts(parseResolvConf([]byte(text)))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\nnameserver 2001:db8::1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, a := range parseResolvConf(text) {
			if !a.IsValid() || a.Port() != dnsPort {
				t.Errorf("%v", a)
			}
		}
	})
}

// FuzzAccept feeds datagrams to a request that waits: no panic, and what is
// accepted carries its ID.
func FuzzAccept(f *testing.F) {
	r := new(dns.Msg)
	r.SetQuestion("www.example.org.", dns.TypeA)
	r.Id = 0x1234
	m := new(dns.Msg)
	m.SetReply(r)
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "www.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(192, 0, 2, 1)}}
	wire, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire)
	f.Add(wire[:len(wire)-3])
	var fw Forwarder
	f.Fuzz(func(t *testing.T, wire []byte) {
		if got, ok := fw.accept(wire, r); ok && got.Id != r.Id {
			t.Errorf("accepted ID %d", got.Id)
		}
	})
}

func TestFileOfUpstreamsIsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string, modified time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	g, err := newGroup([]string{"192.0.2.7:5353", path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(100000, 0)
	expect := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, texts(g.addrs(now))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	expect("192.0.2.7:5353") // not there yet
	write("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", now)
	expect("192.0.2.7:5353") // nobody has looked
	now = now.Add(recheck)
	expect("192.0.2.7:5353", "192.0.2.1:53", "192.0.2.2:53")
	write("nameserver 192.0.2.3\nnameserver 192.0.2.3\n", now)
	now = now.Add(recheck)
	expect("192.0.2.7:5353", "192.0.2.3:53")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(recheck)
	expect("192.0.2.7:5353", "192.0.2.3:53") // what it held stays
}

func TestUpstreamHealth(t *testing.T) {
	u := &upstream{}
	now := time.Unix(1000, 0)
	expect := func(about string, want bool) {
		t.Helper()
		if got := u.isDown(now, 0); got != want {
			t.Errorf("%s: down %v, want %v", about, got, want)
		}
	}
	u.report(false, now)
	expect("one failure", false)
	u.report(false, now)
	expect("two failures", true)
	for range 100 {
		u.report(false, now)
	}
	now = now.Add(minDown)
	expect("after the first pause, however many failed in it", false)
	u.report(false, now)
	now = now.Add(minDown)
	expect("the next pause is longer", true)
	now = now.Add(minDown)
	expect("and ends", false)
	for range 20 {
		u.report(false, now)
		now = now.Add(maxDown)
	}
	expect("no pause is longer than maxDown", false)
	u.report(false, now)
	u.report(true, now)
	expect("an answer", false)
	u.report(false, now)
	expect("starts over", false)
}

func TestOptionsThatCannotBeUsed(t *testing.T) {
	for _, tt := range []struct {
		edit func(*Options)
		want []string
	}{
		{func(o *Options) { o.Upstreams = []string{"192.0.2.1", "dns.example.org"} }, []string{"upstreams", "[1]", "dns.example.org"}},
		{func(o *Options) { o.StubDomains = map[string][]string{"corp.example": {"bogus"}} }, []string{"stubDomains", "corp.example", "[0]", "bogus"}},
		{func(o *Options) { o.StubDomains = map[string][]string{"a..b": nil} }, []string{"stubDomains", "a..b"}},
	} {
		o := Options{Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
		tt.edit(&o)
		_, err := New(o)
		if err == nil || slices.ContainsFunc(tt.want, func(s string) bool { return !strings.Contains(err.Error(), s) }) {
			t.Errorf("error %v does not name all of %q", err, tt.want)
		}
	}
}

// sendFromElsewhere sends a datagram to addr from a socket of its own.
func sendFromElsewhere(t *testing.T, wire []byte, addr string) {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write(wire); err != nil {
		t.Error(err)
	}
}
