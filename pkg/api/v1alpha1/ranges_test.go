package v1alpha1

import (
	"net/netip"
	"testing"
)

func TestParseRange(t *testing.T) {
	tests := []struct{ in, want, wrong string }{
		{in: "192.0.2.0/24", want: "192.0.2.1-192.0.2.254"},
		{in: "192.0.2.4/30", want: "192.0.2.5-192.0.2.6"},
		{in: "192.0.2.4/31", want: "192.0.2.4-192.0.2.5"},
		{in: "192.0.2.4/32", want: "192.0.2.4"},
		{in: "2001:db8::/64", want: "2001:db8::1-2001:db8::ffff:ffff:ffff:ffff"},
		{in: "2001:db8::4/128", want: "2001:db8::4"},
		{in: " 192.0.2.1 - 192.0.2.9 ", want: "192.0.2.1-192.0.2.9"},
		{in: "2001:db8::1-2001:db8::1", want: "2001:db8::1"},
		{in: "192.0.2.7", want: "192.0.2.7"},
		{in: "", wrong: `"" is neither a CIDR, nor a range, nor an address`},
		{in: "192.0.2.1/24", wrong: `"192.0.2.1/24" is not a whole network: that would be 192.0.2.0/24`},
		{in: "192.0.2.0/33", wrong: `"192.0.2.0/33" is not a CIDR such as 192.0.2.0/24`},
		{in: "192.0.2.9-192.0.2.1", wrong: `"192.0.2.9-192.0.2.1" ends before it begins`},
		{in: "192.0.2.9-2001:db8::1", wrong: `"192.0.2.9-2001:db8::1" is from one family to the other`},
		{in: "192.0.2.1-9", wrong: `"192.0.2.1-9" is not a range of addresses such as 192.0.2.10-192.0.2.20`},
		{in: "a-b-c", wrong: `"a-b-c" is not a range of addresses such as 192.0.2.10-192.0.2.20`},
		{in: "::ffff:192.0.2.1", wrong: `"::ffff:192.0.2.1" is neither a CIDR, nor a range, nor an address`},
		{in: "fe80::1%eth0", wrong: `"fe80::1%eth0" is neither a CIDR, nor a range, nor an address`},
		{in: "127.0.0.0/8", wrong: `"127.0.0.0/8" has addresses of 127.0.0.0/8, which no Service can have`},
		{in: "0.0.0.0/0", wrong: `"0.0.0.0/0" has addresses of 0.0.0.0/8, which no Service can have`},
		{in: "223.255.255.0-224.0.0.1", wrong: `"223.255.255.0-224.0.0.1" has addresses of 224.0.0.0/4, which no Service can have`},
		{in: "ff02::1", wrong: `"ff02::1" has addresses of ff00::/8, which no Service can have`},
	}
	for _, tt := range tests {
		got, err := ParseRange(tt.in)
		switch {
		case tt.wrong != "":
			if err == nil || err.Error() != tt.wrong {
				t.Errorf("%q: %v, want the error %s", tt.in, err, tt.wrong)
			}
		case err != nil:
			t.Errorf("%q: %v", tt.in, err)
		case got.String() != tt.want:
			t.Errorf("%q: %v, want %s", tt.in, got, tt.want)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "2001:db8::1-2001:db8::2", "10.0.0.1", "0.0.0.0/0", "-", "/", "::/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRange(text)
		if err != nil {
			return
		}
		if !r.Contains(r.First) || !r.Contains(r.Last) || r.First.BitLen() != r.Last.BitLen() {
			t.Errorf("%q is %v", text, r)
		}
		if again, err := ParseRange(r.String()); err != nil || again != r {
			t.Errorf("%q is %v, and that is %v, %v", text, r, again, err)
		}
		if r.Contains(netip.MustParseAddr("127.0.0.1")) || r.Contains(netip.MustParseAddr("::1")) {
			t.Errorf("%q has loopback addresses: %v", text, r)
		}
	})
}
