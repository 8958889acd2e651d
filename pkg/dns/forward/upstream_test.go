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

func FuzzParseServer(f *testing.F) {
	f.Add("192.0.2.1:5353")
	f.Add("[fe80::1%eth0]")
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := parseServer(text); err == nil && (!a.IsValid() || a.Port() == 0) {
			t.Errorf("%q is %v", text, a)
		}
	})
}

// FuzzKey has clients ask for any name: one that is accepted comes back the same.
func FuzzKey(f *testing.F) {
	f.Add("www.example.org.")
	f.Add(`a\.b\000.Example`)
	f.Fuzz(func(t *testing.T, name string) {
		k, spelled, err := Query{Name: name}.key()
		if err != nil {
			return
		}
		if again, _, err := (Query{Name: k.text()}).key(); err != nil || again != k || len(spelled) != len(k.name) || len(spelled) > 255 {
			t.Errorf("%q became %q, and that %q: %v", name, k.name, again.name, err)
		}
	})
}

// FuzzRead feeds datagrams to a request that waits, as they come and with the
// beginning that it waits for: no panic, what is accepted is the answer to it, and
// what is made of that is a valid message of bounded size about nothing else.
func FuzzRead(f *testing.F) {
	k := key{name: "\x03www\x07example\x03org\x00", qtype: dns.TypeA, flags: RecursionDesired}
	r := newRequest(k, true, true)
	m := new(dns.Msg)
	if err := m.Unpack(r.wire); err != nil {
		f.Fatal(err)
	}
	for _, texts := range [][]string{
		{"www.example.org. 60 IN A 192.0.2.1"},
		{"www.example.org. 60 IN CNAME x.example.org.", "x.example.org. 60 IN A 192.0.2.1", soa60},
		{"example.org. 60 IN DNAME example.net.", "www.example.org. 60 IN CNAME www.example.net."},
	} {
		wire, err := reply(f, m, dns.RcodeSuccess, texts...).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire[r.questionEnd:], byte(len(texts)), byte(0))
		f.Add(wire[r.questionEnd:len(wire)-3], byte(1), byte(1))
	}
	f.Fuzz(func(t *testing.T, rest []byte, answers, authorities byte) {
		if len(rest) > dns.MaxMsgSize-r.questionEnd {
			return
		}
		if _, how, _ := r.read(rest); how == exact && !strings.HasPrefix(string(rest), string(r.wire[:2])) {
			t.Error("accepted another ID")
		}
		wire := append(slices.Clone(r.wire[:r.questionEnd]), rest...)
		wire[2], wire[3], wire[7], wire[9], wire[11] = bitQR>>8, 0, answers, authorities, 0
		m, how, err := r.read(wire)
		if how != exact {
			t.Fatalf("its own question is %v", how)
		}
		if err != nil {
			return
		}
		now := time.Unix(1000, 0)
		a, err := answerOf(m, k, now)
		if err != nil {
			return
		}
		got := new(dns.Msg)
		if err := got.Unpack(a.Append(nil, now.Add(time.Second))); err != nil {
			t.Fatalf("what was made of it is no message: %v", err)
		}
		for _, rr := range got.Answer {
			if owner := rr.Header().Name; !dns.IsSubDomain(owner, "www.example.org.") && len(got.Answer) == 1 {
				t.Errorf("kept %v", rr)
			}
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
	g, err := newGroup(".", []string{"192.0.2.7:5353", path}, slog.New(slog.DiscardHandler))
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
	// What takes its place may be as old and as long.
	write("nameserver 192.0.2.3\nnameserver 192.0.2.3\n", now.Add(-recheck))
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
	u.failed(now)
	expect("one failure", false)
	for range failuresToDown - 1 {
		u.failed(now)
	}
	expect("failures in a row", true)
	for range 100 {
		u.failed(now)
	}
	now = now.Add(minDown)
	expect("after the first pause, however many failed in it", false)
	u.failed(now)
	now = now.Add(minDown)
	expect("the next pause is longer", true)
	now = now.Add(minDown)
	expect("and ends", false)
	for range 20 {
		u.failed(now)
		now = now.Add(maxDown)
	}
	expect("no pause is longer than maxDown", false)
	u.failed(now)
	u.succeeded(time.Millisecond, now)
	expect("an answer", false)
	u.failed(now)
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
