package forward

import (
	"fmt"
	"net/netip"

	"github.com/miekg/dns"
)

// Flags are those bits of a question that decide its answer.
type Flags uint8

// The bits of Flags.
const (
	RecursionDesired Flags = 1 << iota
	CheckingDisabled
	// DNSSEC asks for signatures (the DO bit).
	DNSSEC
)

// Query is a question in class IN, with what of its flags decides the answer.
type Query struct {
	Name             string
	Type             uint16
	RecursionDesired bool
	CheckingDisabled bool
	// DNSSEC asks for signatures (the DO bit).
	DNSSEC bool
	// Client is who asks, for the limit of each client; the zero value has none.
	Client netip.Addr
}

func (q Query) flags() (f Flags) {
	if q.RecursionDesired {
		f |= RecursionDesired
	}
	if q.CheckingDisabled {
		f |= CheckingDisabled
	}
	if q.DNSSEC {
		f |= DNSSEC
	}
	return f
}

// key is what equal questions have in common. The flags belong to it: an answer
// that was not validated, because one client wished so, is not for the others
// (CVE-2024-0874).
type key struct {
	name  string // wire format, lower case
	qtype uint16
	flags Flags
}

// key returns the key of q, and its name in wire format as it is spelled.
func (q Query) key() (k key, spelled []byte, err error) {
	spelled, err = packName(q.Name)
	if err != nil {
		return key{}, nil, err
	}
	return key{name: lower(spelled), qtype: q.Type, flags: q.flags()}, spelled, nil
}

// text returns the name in presentation format.
func (k key) text() string {
	name, _, err := dns.UnpackDomainName([]byte(k.name), 0)
	if err != nil {
		return "."
	}
	return name
}

func (k key) String() string { return k.text() + " " + dns.Type(k.qtype).String() }

func packName(name string) ([]byte, error) {
	var buf [256]byte
	n, err := dns.PackDomainName(dns.Fqdn(name), buf[:], 0, nil, false)
	if err != nil {
		return nil, fmt.Errorf("%q is no domain name: %w", name, err)
	}
	return append([]byte(nil), buf[:n]...), nil
}

// lower returns name, which is in wire format, in lower case. The lengths of
// labels are all below the letters.
func lower(name []byte) string {
	out := make([]byte, len(name))
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	return string(out)
}
