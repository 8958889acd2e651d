package dns

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/signpost-dev/signpost/pkg/dns/forward"
	"github.com/signpost-dev/signpost/pkg/dns/records"
)

// exchange is a question on its way to its answer.
type exchange struct {
	server *Server
	meter  *meter
	query  query
	client netip.Addr
	// size is the length of the request, in octets.
	size   int
	start  time.Time
	reply  *dns.Msg
	source string
	// wait is what an upstream must be asked before reply is complete.
	wait *forward.Query
	// walk, if any, is made in the client's place, and reply is what it begins with.
	walk *walk
}

// begin answers x as far as it can be done without waiting. Lists begin where
// rotation says, which should be chance: a counter would be in step with clients
// that ask for A and AAAA in turn, and start anew with each connection.
func (x *exchange) begin(rotation uint32) {
	q, view := &x.query, x.server.view()
	a := view.Answer(records.Question{Name: q.name, Type: q.qtype}, rotation)
	x.walk = x.beginWalk(view, &a, rotation)
	x.take(&a)
	if x.walk != nil {
		x.walkOn()
	}
}

// take makes the reply what the view says, or asks who knows more.
func (x *exchange) take(a *records.Answer) {
	q := &x.query
	x.reply = q.newReply(a.Rcode)
	if a.Forward {
		x.ask(forward.Query{
			Name: q.name, Type: q.qtype, RecursionDesired: q.rd, CheckingDisabled: q.cd, DNSSEC: q.do, Client: x.client})
		return
	}
	x.source = sourceCluster
	x.reply.Authoritative = true
	x.reply.Answer, x.reply.Ns, x.reply.Extra = a.Answer, a.Ns, a.Extra
	if a.Chase != "" {
		x.ask(x.recursive(a.Chase, q.qtype))
	}
}

// recursive is a question of our own, for what the client will have of it.
func (x *exchange) recursive(name string, qtype uint16) forward.Query {
	return forward.Query{
		Name: name, Type: qtype, RecursionDesired: true, CheckingDisabled: x.query.cd, DNSSEC: x.query.do, Client: x.client}
}

func (x *exchange) ask(q forward.Query) {
	if m, ok := x.server.forwarder.Cached(q); ok {
		x.source = sourceCache
		x.add(m)
		return
	}
	x.wait = &q
}

// finish asks what begin could not answer.
func (x *exchange) finish(ctx context.Context) {
	x.source = sourceForward
	for x.wait != nil {
		q := *x.wait
		x.wait = nil
		m, err := x.server.forwarder.Resolve(ctx, q)
		switch {
		case err == nil && x.walk != nil:
			x.walk.hear(m)
			x.walkOn()
			x.source = sourceForward
		case err == nil:
			x.add(m)
		case errors.Is(err, forward.ErrBusy):
			x.refuse(dns.RcodeRefused)
		default:
			x.server.log.Debug("no upstream resolver had an answer", "error", err)
			x.refuse(dns.RcodeServerFailure)
		}
	}
}

// add completes the reply with what the forwarder said: all of the answer, or
// what a CNAME record of the cluster leads to. The response code is that of the
// end of the chain (RFC 6604).
func (x *exchange) add(m *dns.Msg) {
	r := x.reply
	r.Rcode = m.Rcode
	r.AuthenticatedData = m.AuthenticatedData && !r.Authoritative && (x.query.ad || x.query.do)
	r.Answer = append(r.Answer, m.Answer...)
	r.Ns, r.Extra = m.Ns, m.Extra
}

// refuse makes the reply one that says only why there is none.
func (x *exchange) refuse(rcode int) { x.reply = x.query.newReply(rcode) }

// pack returns the reply in at most size octets and counts it.
func (x *exchange) pack(size int, buf []byte) ([]byte, error) {
	wire, err := x.query.pack(x.reply, size, buf)
	if err != nil {
		x.server.log.Error("cannot write an answer", "name", x.query.name, "type", dns.TypeToString[x.query.qtype], "error", err)
	}
	if wire != nil {
		x.meter.answered(x.reply.Rcode, x.source, measured{x.query.qtype, x.query.do, time.Since(x.start), x.size, len(wire)})
	}
	return wire, err
}
