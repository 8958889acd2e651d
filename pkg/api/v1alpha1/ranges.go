package v1alpha1

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Range are all addresses of one family from First to Last, both included.
type Range struct{ First, Last netip.Addr }

// Contains says whether an address is in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.BitLen() == r.First.BitLen() && !a.Less(r.First) && !r.Last.Less(a)
}

// String returns FIRST-LAST, or the address if it is only one.
func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// Ranges returns the addresses of a pool in the order of its spec, without those
// entries that are malformed, of which the error tells.
func (s *LoadBalancerPoolSpec) Ranges() ([]Range, error) {
	var out []Range
	var errs []error
	for i, text := range s.Addresses {
		r, err := ParseRange(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.addresses[%d]: %w", i, err))
			continue
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// ParseRange reads a CIDR such as 192.0.2.0/24, a range such as
// 192.0.2.10-192.0.2.20, or a single address.
//
// Of an IPv4 CIDR of 4 addresses or more the first and the last one are left out,
// and of an IPv6 CIDR the first one: where it is a network of its own, these are
// the network's, its broadcasts' and any of its routers'. A range has all of its
// addresses.
//
// The error names the text. Addresses that no Service can have, such as those of
// loopback or multicast, are one.
func ParseRange(text string) (Range, error) {
	r, err := parseRange(strings.TrimSpace(text))
	if err != nil {
		return Range{}, fmt.Errorf("%q %w", text, err)
	}
	if special, ok := r.special(); ok {
		return Range{}, fmt.Errorf("%q has addresses of %v, which no Service can have", text, special)
	}
	return r, nil
}

func parseRange(text string) (Range, error) {
	if first, last, ok := strings.Cut(text, "-"); ok {
		a, err1 := ParseAddress(strings.TrimSpace(first))
		b, err2 := ParseAddress(strings.TrimSpace(last))
		switch {
		case err1 != nil || err2 != nil:
			return Range{}, errors.New("is not a range of addresses such as 192.0.2.10-192.0.2.20")
		case a.BitLen() != b.BitLen():
			return Range{}, errors.New("is from one family to the other")
		case b.Less(a):
			return Range{}, errors.New("ends before it begins")
		}
		return Range{a, b}, nil
	}
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		if err != nil || p.Addr().Is4In6() {
			return Range{}, errors.New("is not a CIDR such as 192.0.2.0/24")
		}
		if p != p.Masked() {
			return Range{}, fmt.Errorf("is not a whole network: that would be %v", p.Masked())
		}
		return ofPrefix(p), nil
	}
	a, err := ParseAddress(text)
	if err != nil {
		return Range{}, errors.New("is neither a CIDR, nor a range, nor an address")
	}
	return Range{a, a}, nil
}

// ParseAddress reads an address that a Service can have: without a zone, and not
// one of IPv4 written as IPv6.
func ParseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%q is not an address", text)
	}
	return a, nil
}

// ofPrefix returns the range of a network without those addresses that are the
// network's own.
func ofPrefix(p netip.Prefix) Range {
	r := Range{p.Addr(), lastOf(p)}
	switch hostBits := p.Addr().BitLen() - p.Bits(); {
	case hostBits < 2:
	case p.Addr().Is4():
		r = Range{r.First.Next(), r.Last.Prev()}
	default:
		r.First = r.First.Next()
	}
	return r
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b) // of 4 or 16 bytes, as it came from an address
	return a
}

// special returns a network of special use that the range has addresses of.
func (r Range) special() (netip.Prefix, bool) {
	for _, text := range []string{
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",
		"::/127", "::ffff:0:0/96", "fe80::/10", "ff00::/8",
	} {
		if p := netip.MustParsePrefix(text); p.Addr().BitLen() == r.First.BitLen() && !r.Last.Less(p.Addr()) && !lastOf(p).Less(r.First) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}
