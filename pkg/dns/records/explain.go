package records

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Explain says in words what the Answer to q is, and of which objects of which
// Snapshot it is made. Each line is a fact, of at most 255 octets. There is none for a
// name that is not the cluster's to answer.
func (v *View) Explain(q Question) []string {
	var b Basis
	a := v.AnswerOn(q, 0, &b)
	if a.Forward {
		return nil
	}
	out := []string{v.explainSnapshot(), explainAnswer(q, a)}
	for _, s := range append([]usedService{b.service}, b.others().services...) {
		if s.name != (model.Name{}) {
			out = append(out, explainService(s))
		}
	}
	for _, n := range b.more.namespaces {
		out = append(out, fmt.Sprintf("namespace %s: %s", n.name, existence(n.exists)))
	}
	for _, o := range b.more.owners {
		out = append(out, explainOwner(b.more.addr, o))
	}
	for i := range out {
		out[i] = out[i][:min(len(out[i]), maxString)]
	}
	return out
}

// maxString is the length of a string of a TXT record, in octets.
const maxString = 255

func (v *View) explainSnapshot() string {
	if v.snapshot == nil {
		return "nothing is known of the cluster yet"
	}
	return "snapshot " + strconv.FormatUint(v.snapshot.Generation, 10)
}

func explainAnswer(q Question, a Answer) string {
	kind := dns.TypeToString[q.Type] + ": "
	if a.Chase != "" {
		return fmt.Sprintf("%s%s, %d records, and what %s has elsewhere", kind, dns.RcodeToString[a.Rcode], len(a.Answer), a.Chase)
	}
	return fmt.Sprintf("%s%s, %d records", kind, dns.RcodeToString[a.Rcode], len(a.Answer))
}

func explainService(s usedService) string {
	name := "Service " + s.name.String() + ": "
	switch svc := s.is; {
	case svc == nil:
		return name + existence(false)
	case svc.ExternalName != "":
		return name + "external name " + svc.ExternalName
	case svc.Headless:
		ready, all := countEndpoints(svc)
		return fmt.Sprintf("%sheadless, %d of %d endpoints ready", name, ready, all)
	default:
		ready, all := countEndpoints(svc)
		return fmt.Sprintf("%scluster IPs %v, %d of %d endpoints ready", name, svc.ClusterIPs, ready, all)
	}
}

func countEndpoints(svc *model.Service) (ready, all int) {
	for _, g := range svc.Groups {
		for _, e := range g.Endpoints {
			all++
			if e.Ready {
				ready++
			}
		}
	}
	return ready, all
}

func explainOwner(a netip.Addr, o owner) string {
	if o.endpoint {
		return fmt.Sprintf("%s: ready endpoint of Service %s", a, o.service)
	}
	return fmt.Sprintf("%s: cluster IP of Service %s", a, o.service)
}

func existence(there bool) string {
	if there {
		return "exists"
	}
	return "does not exist"
}
