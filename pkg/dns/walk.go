package dns

import (
	"strings"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/dns/search"
)

// walk is a search that is made in a client's place, within one exchange.
type walk struct {
	*search.Walk
	// view is what the steps within the cluster are judged by, from first to last.
	view     *records.View
	rotation uint32
	qtype    uint16
	// heard is what the last step of the type asked for was answered with.
	heard *dns.Msg
}

// beginWalk returns the walk that a question is the first step of, or nil. It lets
// the searcher see all questions for names that are none of the cluster's.
func (x *exchange) beginWalk(view *records.View, a *records.Answer, rotation uint32) *walk {
	q := &x.query
	if x.server.searcher == nil || !isWalked(q.qtype) || !a.Forward && a.Rcode != dns.RcodeNameError {
		return nil
	}
	asked := search.Question{Name: strings.ToLower(strings.TrimSuffix(q.name, ".")), Type: search.Type(q.qtype)}
	w := x.server.searcher.begin(x.client, asked, presence(view))
	if w == nil {
		return nil
	}
	return &walk{Walk: w, view: view, rotation: rotation, qtype: q.qtype}
}

// hear tells the walk what an upstream said to the question that it is at.
func (w *walk) hear(m *dns.Msg) {
	if q, ok := w.Next(); ok && uint16(q.Type) == w.qtype {
		w.heard = m
	}
	w.Heard(outcomeOf(m))
}

// walkOn goes as far as it can without waiting.
func (x *exchange) walkOn() {
	for {
		step, ok := x.walk.Next()
		if !ok {
			x.arrive()
			return
		}
		q := x.recursive(dns.Fqdn(step.Name), uint16(step.Type))
		m, ok := x.server.forwarder.Cached(q)
		if !ok {
			x.wait = &q
			return
		}
		x.source = sourceCache
		x.walk.hear(m)
	}
}

// arrive makes the reply, which denies the name so far, what the walk has found.
func (x *exchange) arrive() {
	w, end := x.walk, x.walk.Result()
	x.walk = nil
	switch end.Kind {
	case search.Nonexistent:
	case search.Nothing:
		x.reply.Rcode = dns.RcodeSuccess
	case search.Failure:
		x.refuse(dns.RcodeServerFailure)
	case search.Alias:
		x.lead(w, dns.Fqdn(end.Target))
	}
}

// lead answers with an alias of the target and what that has.
func (x *exchange) lead(w *walk, target string) {
	// That nobody of the cluster has the name may be remembered for as long as the
	// zone says.
	ttl := uint32(x.server.opts.TTL.Seconds())
	alias := &dns.CNAME{
		Hdr:    dns.RR_Header{Name: x.query.name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl},
		Target: target,
	}
	x.reply.Answer = []dns.RR{alias}
	a := w.view.Answer(records.Question{Name: target, Type: w.qtype}, w.rotation)
	if a.Forward {
		x.add(w.heard)
		return
	}
	x.reply.Rcode, x.reply.Ns, x.reply.Extra = a.Rcode, a.Ns, a.Extra
	x.reply.Answer = append(x.reply.Answer, a.Answer...)
	if a.Chase != "" {
		x.ask(x.recursive(a.Chase, w.qtype))
	}
}
