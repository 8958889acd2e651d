//go:build integration

package names

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
)

// difference is a point in which we answer otherwise than CoreDNS on purpose.
type difference struct {
	name string
	// why ours is right.
	why string
	// everywhere: it is not named in the table.
	everywhere bool
	// apply turns CoreDNS's reply into ours. It knows the question, the objects and
	// what CoreDNS says to other questions, but not our reply. It reports false if
	// the difference does not concern the question.
	apply func(w *world, q question, r *reply) bool
}

// explain returns what CoreDNS would have answered if it did as we do on purpose,
// and the names of those differences that are not everywhere.
func (w *world) explain(q question, theirs reply) (reply, []string) {
	var names []string
	r := theirs
	for _, d := range differences() {
		if d.apply(w, q, &r) && !d.everywhere {
			names = append(names, d.name)
		}
	}
	return r, names
}

// differences are all that there are, but for that of truncation_test.go.
func differences() []difference {
	return []difference{{
		name: "recursion-available", everywhere: true,
		why: "The bit says whether the server asks others for names that it does not have. It does; CoreDNS leaves the bit " +
			"out of its own answers, and clients then warn of a server that cannot recurse.",
		apply: func(_ *world, _ question, r *reply) bool {
			if slices.Contains(r.flags, "ra") {
				return false
			}
			r.setFlag("ra", true)
			return true
		},
	}, {
		name: "edns-size", everywhere: true,
		why: "The size in the OPT record of a reply is what the server can receive, not an echo of what the client can (RFC 6891, " +
			"6.2.3), and nothing larger than 1232 octets is sent over UDP, as fragments are lost.",
		apply: func(_ *world, _ question, r *reply) bool {
			version, rest, ok := strings.Cut(r.opt, " size ")
			if !ok {
				return false
			}
			_, rest, _ = strings.Cut(rest, " ")
			r.opt = version + " size 1232 " + rest
			return true
		},
	}, {
		name: "class",
		why: "There is nothing in other classes than IN. CoreDNS answers with records of class IN that nobody asked for; a " +
			"transparent resolver of class CHAOS would tell of the upstream server.",
		apply: func(_ *world, q question, r *reply) bool {
			if q.class == dns.ClassINET {
				return false
			}
			*r = reply{rcode: "REFUSED", flags: r.flags, opt: r.opt}
			r.setFlag("aa", false)
			return true
		},
	}, {
		name: "case-of-the-zone",
		why: "Names are compared without regard to case (RFC 4343). CoreDNS does not find the name servers of a zone that is " +
			"asked for in capitals.",
		apply: applyCaseOfZone,
	}, {
		name: "names-above-names",
		why: "A name that has names below it exists, and is answered with NODATA (RFC 8020): a resolver that is told NXDOMAIN " +
			"need not ask for what is below. CoreDNS denies dns.ZONE, dns-version.ZONE for all types but TXT, and _tcp.SVC, " +
			"below which are the names of ports.",
		apply: applyNamesAboveNames,
	}, {
		name: "existence",
		why: "Whether a name exists does not depend on the type that is asked for (RFC 4074, RFC 8020). CoreDNS says of names " +
			"without records that they do not exist if it is asked for TXT, and of those that do not exist that they do if it is " +
			"asked for SOA.",
		apply: applyExistence,
	}, {
		name: "pod-srv",
		why:  "A pod's name has no port, so it has no SRV record. CoreDNS makes one that leads to port 0.",
		apply: func(_ *world, q question, r *reply) bool {
			if q.qtype != dns.TypeSRV || len(r.answer) == 0 || !dns.IsSubDomain("pod.cluster.local.", q.name) {
				return false
			}
			r.noData(q)
			return true
		},
	}, {
		name: "end-of-the-chain",
		why: "The response code is that of the name at the end of the chain (RFC 6604), with its SOA record, so that resolvers " +
			"keep and pass on what they were told (RFC 2308). CoreDNS says NOERROR whatever became of the name that an " +
			"ExternalName leads to, also if nobody could tell.",
		apply: applyEndOfChain,
	}, {
		name: "address-as-name",
		why:  "A CNAME record leads to a name. CoreDNS sees that an ExternalName is an address, but not if a dot is behind it.",
		apply: func(w *world, q question, r *reply) bool {
			labels, _ := labelsOf(q.name)
			svc := w.serviceOf(labels)
			if svc == nil || r.rcode == "REFUSED" || !strings.HasSuffix(svc.Spec.ExternalName, ".") {
				return false
			}
			if len(labels) != 3 && !slices.Equal(labels[:len(labels)-3], []string{"_", "_"}) { // which stand for any
				return false
			}
			if _, err := netip.ParseAddr(strings.TrimSuffix(svc.Spec.ExternalName, ".")); err != nil {
				return false
			}
			r.noName(q)
			return true
		},
	}, {
		name: "reverse-zones",
		why: "Of in-addr.arpa and ip6.arpa we know the addresses of the cluster and nothing else, so that everything else is asked " +
			"of who does. CoreDNS claims both zones: its SOA and NS records are those of the whole address space of the world, " +
			"which keeps who looks for the zone of an address (nsupdate, RFC 2136 clients) from finding it. It also reads an " +
			"address out of names that are longer than that of an address.",
		apply: func(_ *world, q question, r *reply) bool {
			if !isReverse(q.name) || !slices.Contains(r.flags, "aa") {
				return false
			}
			if n := dns.CountLabel(q.name); q.qtype == dns.TypePTR && len(r.answer) > 0 && (n == 4+2 || n == 32+2) {
				return false
			}
			r.fromUpstream(q)
			return true
		},
	}, {
		name: "pointer-to-nothing",
		why: "A PTR record leads to a name that leads back. CoreDNS makes them from every EndpointSlice, also of those whose " +
			"Service does not exist or has no endpoints because it is an ExternalName.",
		apply: applyPointerToNothing,
	}, {
		name: "unsettled",
		why: "The API leaves open what it means that an endpoint has several addresses, that a port of a slice has no number, and " +
			"what to make of slices of host names, which are deprecated. kube-proxy and we look at the first address, at ports with " +
			"numbers, and at addresses, so that names and packets are the same; CoreDNS makes something of each. Nor does it say " +
			"whose a slice without the label of a Service is: asked for an address of one, CoreDNS does not answer at all. Such " +
			"objects are only in the table, which holds our answers against what is written there.",
		apply: func(*world, question, *reply) bool { return false },
	}}
}

// unsettled are names of the table's Services whose endpoints mean what nobody has
// settled, and the addresses of these endpoints. CoreDNS is not asked for them.
func unsettled(q question) bool {
	for _, zone := range []string{"odd.shop.svc.cluster.local.", "fqdn.shop.svc.cluster.local.", "9.1.10.in-addr.arpa.", "11.1.10.in-addr.arpa."} {
		if dns.IsSubDomain(zone, q.name) {
			return true
		}
	}
	return false
}

const zone = "cluster.local."

// labelsOf returns the labels of a name below the zone, in lower case, and how
// the question spells the zone.
func labelsOf(name string) (labels []string, spelled string) {
	if !dns.IsSubDomain(zone, name) {
		return nil, ""
	}
	spelled = name[len(name)-len(zone):]
	return dns.SplitDomainName(strings.ToLower(strings.TrimSuffix(name[:len(name)-len(zone)], "."))), spelled
}

// serviceOf returns the Service that a name of the zone is below, or nil.
func (w *world) serviceOf(labels []string) *corev1.Service {
	n := len(labels)
	if n < 3 || labels[n-1] != "svc" {
		return nil
	}
	return w.services[labels[n-2]+"/"+labels[n-3]]
}

func isReverse(name string) bool {
	return dns.IsSubDomain("in-addr.arpa.", name) || dns.IsSubDomain("ip6.arpa.", name)
}

func applyCaseOfZone(w *world, q question, r *reply) bool {
	labels, spelled := labelsOf(q.name)
	name := strings.Join(labels, ".")
	if spelled == "" || spelled == zone || name != "ns.dns" && (name != "" || q.qtype != dns.TypeNS) {
		return false
	}
	lower := q
	lower.name = strings.ToLower(q.name)
	*r = w.coreDNSReply(lower)
	for _, section := range [][]string{r.answer, r.authority, r.additional} {
		for i, text := range section {
			if rest, ok := strings.CutPrefix(text, lower.name+" "); ok {
				text = q.name + " " + rest
			}
			section[i] = strings.ReplaceAll(text, zone, spelled)
		}
	}
	r.setFlag("ra", true)
	return true
}

func (w *world) coreDNSReply(q question) reply {
	w.t.Helper()
	m, err := w.coreDNS.ask(q)
	if err != nil {
		w.t.Fatal(err)
	}
	return replyOf(m)
}

func applyNamesAboveNames(w *world, q question, r *reply) bool {
	labels, _ := labelsOf(q.name)
	if r.rcode != "NXDOMAIN" || len(labels) == 0 {
		return false
	}
	switch strings.Join(labels, ".") {
	case "dns", "ns.dns", "dns-version":
		r.noData(q)
		return true
	}
	if svc := w.serviceOf(labels); svc == nil || len(labels) != 4 || !w.hasPorts(svc, labels[0]) {
		return false
	}
	r.noData(q)
	return true
}

// hasPorts reports whether a Service has a name like _http below a label like _tcp.
func (w *world) hasPorts(svc *corev1.Service, label string) bool {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return false
	}
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		return slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool {
			return p.Name != "" && label == "_"+strings.ToLower(string(p.Protocol))
		})
	}
	for _, slice := range w.slicesOf(keyOf(svc)) {
		for _, p := range slice.Ports {
			if *p.Name == "" || label != "_"+strings.ToLower(string(*p.Protocol)) {
				continue
			}
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready == nil || *e.Conditions.Ready {
					return true
				}
			}
		}
	}
	return false
}

// applyExistence asks for a type that CoreDNS has no code for: then it only says
// whether the name exists.
func applyExistence(w *world, q question, r *reply) bool {
	labels, spelled := labelsOf(q.name)
	if q.qtype != dns.TypeTXT && q.qtype != dns.TypeSOA || spelled == "" || len(r.answer) > 0 || r.rcode == "REFUSED" {
		return false
	}
	if len(labels) == 0 && q.qtype == dns.TypeSOA {
		return false
	}
	other := q
	other.qtype = dns.TypeHTTPS
	existence, _ := w.explain(other, w.coreDNSReply(other))
	if existence.rcode == r.rcode {
		return false
	}
	r.rcode = existence.rcode
	return true
}

func applyEndOfChain(_ *world, q question, r *reply) bool {
	if len(r.answer) == 0 || q.qtype == dns.TypeCNAME {
		return false
	}
	words := strings.Fields(r.answer[len(r.answer)-1])
	if words[3] != "CNAME" || dns.IsSubDomain(zone, words[4]) {
		return false
	}
	m := upstreamAnswer(new(dns.Msg).SetQuestion(words[4], q.qtype))
	r.rcode, r.authority = dns.RcodeToString[m.Rcode], texts(m.Ns)
	return true
}

func applyPointerToNothing(w *world, q question, r *reply) bool {
	if q.qtype != dns.TypePTR || !slices.Contains(r.flags, "aa") && r.rcode != "SERVFAIL" || !isReverse(q.name) {
		return false
	}
	kept := slices.DeleteFunc(slices.Clone(r.answer), func(text string) bool {
		labels, _ := labelsOf(strings.Fields(text)[4])
		svc := w.serviceOf(labels)
		return svc == nil || svc.Spec.Type == corev1.ServiceTypeExternalName
	})
	if len(kept) == len(r.answer) && len(kept) > 0 {
		return false
	}
	if r.answer = kept; len(kept) == 0 {
		r.fromUpstream(q)
	}
	return true
}

// noData and noName make a reply negative, with the SOA record of the zone as the
// question spells it.
func (r *reply) noData(q question) { r.negative(q, "NOERROR") }
func (r *reply) noName(q question) { r.negative(q, "NXDOMAIN") }

func (r *reply) negative(q question, rcode string) {
	_, spelled := labelsOf(q.name)
	*r = reply{rcode: rcode, flags: r.flags, opt: r.opt}
	r.authority = []string{strings.ReplaceAll("Z 30 IN SOA ns.dns.Z hostmaster.Z 1 7200 1800 86400 30", "Z", spelled)}
}

// fromUpstream makes a reply one that the upstream resolver has given.
func (r *reply) fromUpstream(q question) {
	m := upstreamAnswer(new(dns.Msg).SetQuestion(q.name, q.qtype))
	*r = reply{rcode: dns.RcodeToString[m.Rcode], flags: r.flags, answer: texts(m.Answer), authority: texts(m.Ns), opt: r.opt}
	r.setFlag("aa", false)
}

// flagOrder is that of replyOf.
func flagOrder() []string { return []string{"aa", "tc", "rd", "ra", "ad", "cd"} }

func (r *reply) setFlag(flag string, set bool) {
	r.flags = slices.DeleteFunc(slices.Clone(r.flags), func(f string) bool { return f == flag })
	if set {
		r.flags = append(r.flags, flag)
	}
	order := flagOrder()
	slices.SortFunc(r.flags, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
}
