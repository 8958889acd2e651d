package records

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// The specification's schema version, and the time to live of its example.
const (
	schemaVersion    = "1.1.0"
	schemaVersionTTL = 28800
)

// maxSOATTL bounds how long an SOA record may be kept, in seconds.
const maxSOATTL = 300

// apex answers for the name of the zone itself.
func (l lookup) apex() Answer {
	switch l.q.Type {
	case dns.TypeSOA:
		l.basis.addView(l.view) // whose serial number is in it
		return Answer{Answer: l.view.authority(l.r.zone)}
	case dns.TypeNS:
		return l.nameServers()
	}
	return noData()
}

// version answers for dns-version.ZONE.
func (l lookup) version() Answer {
	if l.r.namespace != "" {
		return noName()
	}
	if l.q.Type != dns.TypeTXT {
		return noData()
	}
	return Answer{Answer: []dns.RR{&dns.TXT{
		Hdr: dns.RR_Header{Name: l.q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: schemaVersionTTL},
		Txt: []string{schemaVersion},
	}}}
}

// underDNS answers for ns.dns.ZONE, the server's name in SOA records.
func (l lookup) underDNS() Answer {
	switch {
	case l.r.namespace == "":
		return noData()
	case l.r.namespace != "ns" || l.r.service != "":
		return noName()
	}
	return Answer{Answer: l.view.addressRecords(l.q.Name, l.q.Type, l.serverAddrs(), 0)}
}

// nameServers answers the zone's NS question with the name of the server's own
// Service, its addresses beside it.
func (l lookup) nameServers() Answer {
	addrs := l.serverAddrs()
	if len(addrs) == 0 {
		return noData()
	}
	name := serviceDomain(l.view.server, l.r.zone)
	a := Answer{Answer: []dns.RR{&dns.NS{Hdr: l.view.header(l.q.Name, dns.TypeNS), Ns: name}}}
	for _, addr := range addrs {
		a.Extra = append(a.Extra, l.view.addressRecord(name, addr))
	}
	return a
}

// serverAddrs returns the addresses of the DNS server's own Service.
func (l lookup) serverAddrs() []netip.Addr {
	svc := l.service(l.view.server)
	if svc == nil {
		return nil
	}
	return svc.ClusterIPs
}

// authority returns the SOA record of the zone, which is written as the question
// has it. The slice is shared.
func (v *View) authority(zone string) []dns.RR {
	if zone == v.zone {
		return v.soa
	}
	return []dns.RR{v.newSOA(zone)}
}

func (v *View) newSOA(zone string) *dns.SOA {
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: min(v.ttl, maxSOATTL)},
		Ns:      "ns.dns." + zone,
		Mbox:    "hostmaster." + zone,
		Serial:  v.serial,
		Refresh: 7200,
		Retry:   1800,
		Expire:  86400,
		Minttl:  v.ttl,
	}
}

func serviceDomain(n model.Name, zone string) string {
	return n.Name + "." + n.Namespace + ".svc." + zone
}
