package iptablestest

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/proxy/iptables"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// TestRefusals: what the Fake refuses, it refuses at the right line, and it leaves the
// table as it was. The tests with the tag netns check that the programs do the same.
func TestRefusals(t *testing.T) {
	const before = "*nat\n:SIGNPOST-A - [0:0]\n:SIGNPOST-B - [0:0]\n-A SIGNPOST-A -j SIGNPOST-B\nCOMMIT\n"
	tests := []struct {
		name, text string
		line       int
		message    string
	}{
		{"target", "*nat\n-A SIGNPOST-A -j SIGNPOST-NONE\nCOMMIT\n", 3, "SIGNPOST-NONE"},
		{"chain", "*nat\n-A SIGNPOST-NONE -j RETURN\nCOMMIT\n", 2, "SIGNPOST-NONE"},
		{"referenced", "*nat\n:SIGNPOST-B - [0:0]\n-X SIGNPOST-B\nCOMMIT\n", 3, "links"},
		{"not empty", "*nat\n-X SIGNPOST-A\nCOMMIT\n", 2, "not empty"},
		{"built in", "*nat\n-X PREROUTING\nCOMMIT\n", 2, "built in"},
		{"name", "*nat\n:SIGNPOST-" + strings.Repeat("A", 20) + " - [0:0]\nCOMMIT\n", 2, "28"},
		{"match", "*nat\n-A SIGNPOST-A -m foo -j RETURN\nCOMMIT\n", 2, "foo"},
		{"option without its match", "*nat\n-A SIGNPOST-A --ctstate NEW -j RETURN\nCOMMIT\n", 2, "--ctstate"},
		{"match without its protocol", "*nat\n-A SIGNPOST-A -p udp -m tcp --dport 1 -j RETURN\nCOMMIT\n", 2, "-p tcp"},
		{"port", "*nat\n-A SIGNPOST-A -p tcp -m tcp --dport 70000 -j RETURN\nCOMMIT\n", 2, "port"},
		{"address", "*nat\n-A SIGNPOST-A -d 10.0.0.0/33 -j RETURN\nCOMMIT\n", 2, "10.0.0.0/33"},
		{"DNAT without protocol", "*nat\n-A SIGNPOST-A -j DNAT --to-destination 10.0.0.1:80\nCOMMIT\n", 2, "protocol"},
		{"DNAT to nowhere", "*nat\n-A SIGNPOST-A -p tcp -j DNAT --to-destination nowhere\nCOMMIT\n", 2, "ip:port"},
		{"DNAT without destination", "*nat\n-A SIGNPOST-A -p tcp -j DNAT\nCOMMIT\n", 2, "--to-destination"},
		{"option of another target", "*nat\n-A SIGNPOST-A -j ACCEPT --notrack\nCOMMIT\n", 2, "--notrack"},
		{"loop", "*nat\n-A SIGNPOST-B -j SIGNPOST-A\n-A OUTPUT -j SIGNPOST-A\nCOMMIT\n", 4, "back to itself"},
		{"no commit", "*nat\n-A SIGNPOST-B -j RETURN\n", 2, "COMMIT"},
		{"table", "*nosuch\nCOMMIT\n", 1, "nosuch"},
		{"no table", "-A SIGNPOST-A -j RETURN\n", 1, "outside"},
		{"quote", "*nat\n-A SIGNPOST-A -m comment --comment \"a -j RETURN\nCOMMIT\n", 2, "quote"},
		{"the second table", "*filter\n:SIGNPOST-F - [0:0]\nCOMMIT\n*nat\n-A SIGNPOST-A -m foo\nCOMMIT\n", 5, "foo"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := New(ruleset.IPv4)
			if err := f.Restore(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			was := f.Dump()
			if err := f.Check(t.Context(), tt.text); err == nil || f.Dump() != was {
				t.Errorf("Check: %v", err)
			}
			err := f.Restore(t.Context(), tt.text)
			refused, ok := errors.AsType[*iptables.RefusedError](err)
			if !ok || refused.Line != tt.line || !strings.Contains(refused.Message, tt.message) {
				t.Errorf("got %v, want line %d and %q", err, tt.line, tt.message)
			}
			now := strings.Replace(f.Dump(), ":SIGNPOST-F - [0:0]\n", "", 1) // the table that came before
			if diff := cmp.Diff(was, now); diff != "" {
				t.Errorf("a refused table has changed (-before +after):\n%s", diff)
			}
		})
	}
}

// TestTrace checks the ways of a packet through chains.
func TestTrace(t *testing.T) {
	tests := []struct {
		name, text string
		from       Origin
		want       string
	}{
		{"nothing", "", Pod, "1.00 forward 10.96.0.1:80\n"},
		{"jump comes back", "*nat\n:A - [0:0]\n-A PREROUTING -j A\n-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.2:2\n-A A -d 9.9.9.9/32 -j ACCEPT\nCOMMIT\n", Pod,
			"1.00 forward 10.0.0.2:2\n"},
		{"goto goes back one further", "*nat\n:A - [0:0]\n:B - [0:0]\n-A PREROUTING -j A\n-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.2:2\n" +
			"-A A -g B\n-A A -p tcp -j DNAT --to-destination 10.0.0.3:3\n-A B -m mark --mark 0x1/0x1 -j ACCEPT\nCOMMIT\n", Pod, "1.00 forward 10.0.0.2:2\n"},
		{"return", "*nat\n:A - [0:0]\n-A PREROUTING -j A\n-A A -j RETURN\n-A A -p tcp -j DNAT --to-destination 10.0.0.2:2\nCOMMIT\n", Pod,
			"1.00 forward 10.96.0.1:80\n"},
		{"odds", "*nat\n-A PREROUTING -p tcp -m statistic --mode random --probability 0.25 -j DNAT --to-destination 10.0.0.1:1\n" +
			"-A PREROUTING -p tcp -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.0.0.2:2\n" +
			"-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1:1\nCOMMIT\n", Pod, "0.62 forward 10.0.0.1:1\n0.38 forward 10.0.0.2:2\n"},
		{"to the node", "*nat\n-A PREROUTING -p tcp -j DNAT --to-destination 192.168.1.1:1\nCOMMIT\n*filter\n-A FORWARD -j DROP\nCOMMIT\n", Outside,
			"1.00 deliver 192.168.1.1:1\n"},
		{"policy", "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n", Pod, "1.00 drop\n"},
		{"the node does not forward to itself", "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n", Node, "1.00 forward 10.96.0.1:80\n"},
		{"untracked is not translated", "*raw\n-A PREROUTING -j CT --notrack\nCOMMIT\n*nat\n-A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.2:2\nCOMMIT\n", Pod,
			"1.00 forward 10.96.0.1:80 untracked\n"},
		{"masquerade by mark", "*nat\n-A PREROUTING -j MARK --set-xmark 0x4/0x4\n-A POSTROUTING -m mark --mark 0x4/0x4 -j MASQUERADE --random-fully\nCOMMIT\n", Pod,
			"1.00 forward 10.96.0.1:80 masqueraded\n"},
		{"local destination", "*filter\n-A FORWARD -m addrtype ! --dst-type LOCAL -j REJECT\nCOMMIT\n", Pod, "1.00 reject\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := New(ruleset.IPv4)
			f.Local = []netip.Addr{netip.MustParseAddr("192.168.1.1")}
			if err := f.Restore(t.Context(), tt.text); err != nil {
				t.Fatal(err)
			}
			got := f.Trace(Packet{From: tt.from, Proto: "tcp", Src: netip.MustParseAddrPort("10.0.0.9:999"), Dst: netip.MustParseAddrPort("10.96.0.1:80")})
			if diff := cmp.Diff(tt.want, got.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzRestore checks that no text makes the Fake panic, and that what it dumps it takes
// back and dumps the same.
func FuzzRestore(f *testing.F) {
	f.Add("*nat\n:A - [0:0]\n-A A -p tcp -m tcp --dport 1:2 -m comment --comment \"a b\" -j DNAT --to-destination 1.2.3.4:5\n-X A\nCOMMIT\n")
	f.Add("*filter\n:INPUT DROP [0:0]\n-A INPUT ! -s 1.0.0.0/8 -m conntrack ! --ctstate NEW,DNAT -g B\n:B - [0:0]\nCOMMIT\n*raw\n-F OUTPUT\nCOMMIT")
	f.Fuzz(func(t *testing.T, text string) {
		one, two := New(ruleset.IPv4), New(ruleset.IPv4)
		_ = one.Restore(t.Context(), text)
		if err := two.Restore(t.Context(), one.Dump()); err != nil {
			t.Fatalf("its own dump is refused: %v\n%s", err, one.Dump())
		}
		if diff := cmp.Diff(one.Dump(), two.Dump()); diff != "" {
			t.Errorf("(-dumped +read):\n%s", diff)
		}
	})
}
