package records

import (
	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Question is what is asked, in class IN.
type Question struct {
	// Name is fully qualified, in the text form of miekg/dns.
	Name string
	Type uint16
}

// Answer is what there is to say to a Question. Its records may be shared with
// other Answers and must not be changed; its slices are the caller's, except Ns.
type Answer struct {
	// Forward is true for a name that is not the cluster's: somebody else has to
	// answer. Nothing else is set then.
	Forward bool
	// Rcode is a response code of the DNS: success, NXDOMAIN, SERVFAIL, REFUSED.
	Rcode  int
	Answer []dns.RR
	// Ns holds the SOA record of a negative answer.
	Ns    []dns.RR
	Extra []dns.RR
	// Turns is true if rotation chose where Answer begins, and might as well have
	// chosen any other of its records.
	Turns bool
	// Chase is set when Answer ends in a CNAME that leads out of the zone. It is
	// the name that it leads to, whose records of the asked type belong behind it.
	Chase string
}

// maxChain is how many CNAME records an answer has at most, as in CoreDNS. That of
// an ExternalName whose chain is longer, or a circle, has none at all.
const maxChain = 11

// Answer answers q. Lists of addresses and of endpoints begin at an element that
// rotation chooses, so that a caller who counts it up spreads the load.
func (v *View) Answer(q Question, rotation uint32) Answer { return v.AnswerOn(q, rotation, nil) }

// AnswerOn does what Answer does, and puts into basis, if that is not nil, what
// the Answer rests on.
func (v *View) AnswerOn(q Question, rotation uint32, basis *Basis) Answer {
	if basis != nil {
		*basis = Basis{rest: v.rest}
	}
	lower := lowered(q.Name)
	r, ok := parse(q.Name, lower, v.zone)
	if !ok {
		if q.Type == dns.TypePTR {
			return v.pointer(q.Name, lower, basis)
		}
		return Answer{Forward: true}
	}
	switch {
	case q.Type == dns.TypeAXFR || q.Type == dns.TypeIXFR:
		return Answer{Rcode: dns.RcodeRefused}
	case v.snapshot == nil:
		return Answer{Rcode: dns.RcodeServerFailure}
	}
	a := lookup{view: v, q: q, r: r, rotation: rotation, basis: basis}.answer()
	if a.Rcode == dns.RcodeNameError || a.Rcode == dns.RcodeSuccess && len(a.Answer) == 0 {
		a.Ns = v.authority(r.zone)
	}
	return a
}

// InZone reports whether name, in any case, is the zone's own name or below it.
func (v *View) InZone(name string) bool {
	_, ok := trimZone(lowered(name), v.zone)
	return ok
}

// lookup is one Question on its way to an Answer.
type lookup struct {
	view     *View
	q        Question
	r        request
	rotation uint32
	basis    *Basis
	// chain counts the CNAME records that led here.
	chain int
}

func noName() Answer { return Answer{Rcode: dns.RcodeNameError} }
func noData() Answer { return Answer{Rcode: dns.RcodeSuccess} }

func (l lookup) answer() Answer {
	if l.r.tooDeep {
		return noName()
	}
	switch l.r.root {
	case "":
		return l.apex()
	case "svc":
		return l.underSvc()
	case "pod":
		return l.underPod()
	case "dns":
		return l.underDNS()
	case "dns-version":
		return l.version()
	}
	return noName()
}

func (l lookup) underSvc() Answer {
	if l.r.service == "" {
		return l.emptyNode()
	}
	svc := l.service(model.Name{Namespace: l.r.namespace, Name: l.r.service})
	switch {
	case svc == nil:
		return noName()
	case svc.ExternalName != "":
		return l.external(svc)
	case l.r.endpoint != "" && l.r.endpoint[0] == '_':
		return l.protocolNode(svc)
	case svc.Headless || l.r.endpoint != "":
		return l.endpoints(svc)
	}
	return l.clusterIP(svc)
}

// emptyNode answers for svc.ZONE, pod.ZONE and for the namespaces below them:
// they have no records, only names below.
func (l lookup) emptyNode() Answer {
	if l.r.namespace == "" || l.namespaceExists() {
		return noData()
	}
	return noName()
}

func (l lookup) namespaceExists() bool {
	_, ok := l.view.snapshot.Namespaces[l.r.namespace]
	l.basis.addNamespace(l.r.namespace, ok)
	return ok
}

func (l lookup) service(n model.Name) *model.Service {
	svc := l.view.snapshot.Services.Get(n)
	l.basis.addService(n, svc)
	return svc
}
