package records

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// PodMode says how names of pods, 10-0-0-1.NAMESPACE.pod.ZONE, are answered.
type PodMode string

// The modes that exist. PodsInsecure answers for any address, without knowing
// whether there is such a pod. PodsVerified answers for those that the node knows:
// its own pods, which must be in the Snapshot, and of those on other nodes the ones
// that are ready endpoints of a Service in their namespace.
const (
	PodsDisabled PodMode = "disabled"
	PodsInsecure PodMode = "insecure"
	PodsVerified PodMode = "verified"
)

// MaxTTL is the largest time to live, in seconds, that records can have.
const MaxTTL = 3600

// Options say which zone is answered for, and how.
type Options struct {
	// Domain is the cluster's domain, such as "cluster.local".
	Domain string
	// TTL is the time to live of records in seconds, 0 to MaxTTL.
	TTL uint32
	// Pods is PodsDisabled if empty.
	Pods PodMode
	// Server is the Service of the DNS server itself, which the zone's NS
	// record points at.
	Server model.Name
}

// View is what can be said about names at one moment: a Snapshot, and an index
// of its addresses. It is immutable and may be used from any goroutine.
type View struct {
	zone   string // lower case, fully qualified
	ttl    uint32
	pods   PodMode
	server model.Name

	// version counts the Views that led here by Next, rest is the version since
	// which the Snapshot differs in nothing but Services and Namespaces.
	version, rest uint64
	// snapshot is nil until the first one is known. Who reads anything of it for an
	// Answer must have the Basis know.
	snapshot *model.Snapshot
	reverse  reverseIndex
	serial   uint32
	// soa is the authority section of negative answers.
	soa []dns.RR
	// wire is the zone's name in wire format.
	wire []byte
}

// New returns a View that knows nothing yet: it answers SERVFAIL for the names
// of the zone. The error names the option that cannot be used.
func New(o Options) (*View, error) {
	zone := strings.ToLower(dns.Fqdn(o.Domain))
	if _, ok := dns.IsDomainName(zone); !ok || zone == "." || strings.HasPrefix(zone, ".") {
		return nil, fmt.Errorf("domain: %q is no domain name", o.Domain)
	}
	if o.TTL > MaxTTL {
		return nil, fmt.Errorf("ttl: %d s is more than %d s", o.TTL, MaxTTL)
	}
	if o.Pods == "" {
		o.Pods = PodsDisabled
	}
	if !slices.Contains([]PodMode{PodsDisabled, PodsInsecure, PodsVerified}, o.Pods) {
		return nil, fmt.Errorf("pods: %q is not one of %s, %s and %s", o.Pods, PodsDisabled, PodsInsecure, PodsVerified)
	}
	v := &View{zone: zone, ttl: o.TTL, pods: o.Pods, server: o.Server, wire: make([]byte, len(zone)+1)}
	if _, err := dns.PackDomainName(zone, v.wire, 0, nil, false); err != nil {
		return nil, fmt.Errorf("domain: %w", err)
	}
	v.soa = []dns.RR{v.newSOA(zone)}
	return v, nil
}

// Next returns the View of a newer Snapshot. Its cost follows what changed
// between the two. Serial is the number that SOA records carry, which by custom
// is the time in Unix seconds.
func (v *View) Next(s *model.Snapshot, serial uint32) *View {
	var older model.ServiceMap
	if v.snapshot != nil {
		older = v.snapshot.Services
	}
	next := *v
	next.version++
	if restChanged(v.snapshot, s) {
		next.rest = next.version
	}
	next.snapshot = s
	next.serial = serial
	next.reverse = v.reverse.next(&older, &s.Services)
	next.soa = []dns.RR{next.newSOA(v.zone)}
	return &next
}

// Snapshot returns the Snapshot that the View was made from, or nil.
func (v *View) Snapshot() *model.Snapshot { return v.snapshot }

// Version grows by one with each Next.
func (v *View) Version() uint64 { return v.version }

// Authority returns the authority section of negative answers to questions that
// have the zone in lower case. It must not be changed.
func (v *View) Authority() []dns.RR { return v.soa }

// Zone returns the name of the zone in wire format, in lower case. It must not be
// changed.
func (v *View) Zone() []byte { return v.wire }

// IsElsewhere reports whether name, in wire format and lower case, can be told at
// a glance to be none that the View knows of, now or later: Answer says Forward to
// any question for it. It allocates nothing.
func (v *View) IsElsewhere(name []byte) bool {
	return !bytes.HasSuffix(name, v.wire) && !bytes.HasSuffix(name, []byte("\x04arpa\x00"))
}
