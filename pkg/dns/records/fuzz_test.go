package records

import (
	"testing"

	"github.com/miekg/dns"
)

// FuzzAnswer asks for any name that can come off the wire. Whatever the answer,
// it can be packed, a negative one carries an SOA record, and existence does not
// depend on the type.
func FuzzAnswer(f *testing.F) {
	v := viewOf(f, cluster())
	for _, cases := range [][]testCase{clusterIPCases, headlessCases, endpointCases, externalCases, zoneCases, missingCases, podCases, pointerCases} {
		for _, tt := range cases {
			f.Add(tt.name, dns.StringToType[tt.typ], uint32(1))
		}
	}
	f.Fuzz(func(t *testing.T, name string, qtype uint16, rotation uint32) {
		name, ok := throughTheWire(name)
		if !ok {
			return
		}
		a := v.Answer(Question{name, qtype}, rotation)
		if a.Forward {
			return
		}
		m := dns.Msg{Answer: a.Answer, Ns: a.Ns, Extra: a.Extra}
		if _, err := m.Pack(); err != nil {
			t.Fatalf("%q %d: %v", name, qtype, err)
		}
		negative := a.Rcode == dns.RcodeNameError || a.Rcode == dns.RcodeSuccess && len(a.Answer) == 0
		if negative != (len(a.Ns) == 1) {
			t.Fatalf("%q %d: rcode %d, %d answers, %d in authority", name, qtype, a.Rcode, len(a.Answer), len(a.Ns))
		}
		if v.InZone(name) && a.Rcode != dns.RcodeRefused {
			other := v.Answer(Question{name, dns.TypeTXT}, rotation)
			if other.Rcode != a.Rcode {
				t.Fatalf("%q: type %d has rcode %d, TXT has %d", name, qtype, a.Rcode, other.Rcode)
			}
		}
	})
}

// throughTheWire gives name the form that it has after unpacking, and drops what
// is no name.
func throughTheWire(name string) (string, bool) {
	buf := make([]byte, 300)
	n, err := dns.PackDomainName(dns.Fqdn(name), buf, 0, nil, false)
	if err != nil {
		return "", false
	}
	out, _, err := dns.UnpackDomainName(buf[:n], 0)
	return out, err == nil
}
