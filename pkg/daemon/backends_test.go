package daemon

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// TestAloneIsAMajority: without peers, or where nobody else is known, this node
// checks by itself.
func TestAloneIsAMajority(t *testing.T) {
	for _, addresses := range []map[string]netip.Addr{nil, {"other": netip.MustParseAddr("192.0.2.1")}} {
		c := checkers{self: "me", addresses: func() map[string]netip.Addr { return addresses }}
		if names, all := c.Able(); !cmp.Equal(names, []string{"me"}) || all != 1 {
			t.Errorf("%v: %v of %d", addresses, names, all)
		}
	}
}

func TestAddressesIn(t *testing.T) {
	var records []dns.RR
	for _, text := range []string{"a.example. 5 IN CNAME b.example.", "b.example. 5 IN A 192.0.2.1", "b.example. 5 IN AAAA 2001:db8::1", "b.example. 5 IN TXT x"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, rr)
	}
	var got []string
	for _, a := range addressesIn(records) {
		got = append(got, a.String())
	}
	if diff := cmp.Diff([]string{"192.0.2.1", "2001:db8::1"}, got); diff != "" {
		t.Error(diff)
	}
}
