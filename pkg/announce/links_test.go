package announce

import (
	"net/netip"
	"slices"
	"testing"
)

func TestWhereToAnnounce(t *testing.T) {
	prefixes := func(in ...string) (out []netip.Prefix) {
		for _, s := range in {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	links := []link{
		{index: 2, name: "eth0", prefixes: prefixes("192.0.2.11/24", "fe80::1/64", "2001:db8::11/64")},
		{index: 3, name: "eth1", prefixes: prefixes("198.51.100.11/24")},
		{index: 4, name: "eth2", prefixes: prefixes("198.51.100.12/24", "203.0.113.1/24")},
		{index: 9, name: "cni0", prefixes: prefixes("10.244.1.1/24", "fe80::2/64")},
	}
	own := []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")}
	for _, tt := range []struct {
		what, address string
		named         []string
		want          []int
	}{
		{"in a network", "192.0.2.200", nil, []int{2}},
		{"in a network of two links", "198.51.100.200", nil, []int{3}},
		{"in the second network of a link", "203.0.113.7", nil, []int{4}},
		{"in none: where the node's address is", "172.16.0.1", nil, []int{2}},
		{"of IPv6", "2001:db8::200", nil, []int{2}},
		{"of IPv6 and in none", "2001:db8:1::1", nil, []int{2}},
		{"named", "192.0.2.200", []string{"eth1", "eth2", "eth7"}, []int{3, 4}},
		{"named, and not there", "192.0.2.200", []string{"eth7"}, nil},
		{"named, and without IPv6", "2001:db8::200", []string{"eth1", "cni0"}, []int{9}},
	} {
		if got := at(links, netip.MustParseAddr(tt.address), tt.named, own); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
	if got := at(links, netip.MustParseAddr("172.16.0.1"), nil, nil); got != nil {
		t.Errorf("without any address of its own: %v", got)
	}
	if got := links[0].source().String(); got != "fe80::1" {
		t.Errorf("advertisements come from %v", got)
	}
}

// TestReadLinks: whatever this machine has, none of it is the loopback.
func TestReadLinks(t *testing.T) {
	links, own, err := readLinks()
	if err != nil {
		t.Fatal(err)
	}
	if !own[netip.MustParseAddr("127.0.0.1")] {
		t.Errorf("its addresses are %v", own)
	}
	for _, l := range links {
		if l.name == "lo" || l.index == 0 || l.mac == [6]byte{} {
			t.Errorf("%+v", l)
		}
	}
}
