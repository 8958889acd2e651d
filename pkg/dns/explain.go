package dns

import (
	"fmt"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/records"
)

// maxExplained is how many facts an explanation has at most, so that it fits into
// what resolvers take.
const maxExplained = 12

// isExplain reports whether the question is one about an answer: TXT of class CHAOS, which
// by custom is about the server itself.
func (q *query) isExplain() bool { return q.class == dns.ClassCHAOS && q.qtype == dns.TypeTXT }

// explain refuses to speak of other names, such as version.bind, and answers with what an A question for the same name would be answered with, or a
// PTR question where the name stands for an address, and why.
func (x *exchange) explain(view *records.View) {
	q := &x.query
	asked := records.Question{Name: q.name, Type: dns.TypeA}
	if dns.IsSubDomain("in-addr.arpa.", q.name) || dns.IsSubDomain("ip6.arpa.", q.name) {
		asked.Type = dns.TypePTR
	}
	facts := view.Explain(asked)
	if facts == nil {
		x.refuse(dns.RcodeRefused)
		return
	}
	if newest, is := x.server.opts.Snapshots.Snapshot(), view.Snapshot(); newest != nil && is != nil && newest.Generation != is.Generation {
		facts = append(facts, fmt.Sprintf("snapshot %d is known, and not answered from as long as this node has no rules for new addresses", newest.Generation))
	}
	x.reply, x.source = q.newReply(dns.RcodeSuccess), sourceExplain
	x.reply.Authoritative = true
	for _, fact := range facts[:min(len(facts), maxExplained)] {
		x.reply.Answer = append(x.reply.Answer, &dns.TXT{
			Hdr: dns.RR_Header{Name: q.name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS},
			Txt: []string{fact},
		})
	}
}
