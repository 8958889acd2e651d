package dns

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/dns/forward"
	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/dns/search"
	"github.com/signpost-dev/signpost/pkg/model"
)

// Pods are those of this node.
type Pods interface {
	// Pod returns the pod that has the address, or nil if none is known by it. It must be
	// safe for concurrent use.
	Pod(addr netip.Addr) *model.Pod
}

// maxSearchers is how many clients are remembered until those that are gone are looked for.
const maxSearchers = 256

// searching walks search lists in place of the node's pods; see package search. nil
// walks none.
type searching struct {
	pods   Pods
	node   search.Resolver
	domain string
	// results counts questions that the cluster does not know, by why they were not
	// walked; or "walked".
	results *prometheus.CounterVec

	mu      sync.Mutex
	clients map[netip.Addr]*searcher
}

// searcher is a pod that asks.
type searcher struct {
	pod *model.Pod

	mu     sync.Mutex
	client *search.Client
}

func newSearching(o *Options, r prometheus.Registerer) *searching {
	if o.PodsOfNode == nil {
		return nil
	}
	s := &searching{
		pods: o.PodsOfNode, node: search.ParseResolvConf(o.NodeResolvConf), domain: o.Domain, clients: map[netip.Addr]*searcher{},
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_dns_searches_total",
			Help: "Questions of this node's pods for addresses of names that the cluster does not have, by whether the search list was walked for them, or why not.",
		}, []string{"result"}),
	}
	r.MustRegister(s.results)
	return s
}

// of returns the searcher at an address, or nil if there is none whose search list is
// known.
func (s *searching) of(addr netip.Addr) *searcher {
	if s == nil {
		return nil
	}
	pod := s.pods.Pod(addr)
	if pod == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clients[addr]; c != nil && c.pod == pod {
		return c
	}
	c := &searcher{pod: pod}
	if r, ok := search.ForPod(searchPod(pod), s.node, s.domain); ok {
		c.client = search.NewClient(r)
	}
	if len(s.clients) >= maxSearchers {
		s.forget()
	}
	s.clients[addr] = c
	return c
}

// forget drops the clients that are gone.
func (s *searching) forget() {
	for addr, c := range s.clients {
		if s.pods.Pod(addr) != c.pod {
			delete(s.clients, addr)
		}
	}
}

func searchPod(p *model.Pod) search.Pod {
	out := search.Pod{Namespace: p.Namespace, HostNetwork: p.HostNetwork, Policy: search.Policy(p.DNSPolicy), Searches: p.Searches}
	for _, o := range p.ResolverOptions {
		out.Options = append(out.Options, search.Option{Name: o.Name, Value: o.Value})
	}
	return out
}

// searches reports whether a question of the client that the cluster has no name for might be
// walked.
func (s *searching) searches(client netip.Addr, qtype uint16) bool {
	return s != nil && (qtype == dns.TypeA || qtype == dns.TypeAAAA) && s.of(client) != nil
}

// begin returns the walk for a question that v answers with a, or nil if it has to be
// answered as it stands.
func (s *searching) begin(client netip.Addr, q *query, a *records.Answer, v *records.View) *search.Walk {
	if !a.Forward && a.Rcode != dns.RcodeNameError || !s.searches(client, q.qtype) {
		return nil
	}
	c := s.of(client)
	if c == nil || c.client == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	question := search.Question{Name: strings.ToLower(strings.TrimSuffix(q.name, ".")), Type: search.Type(q.qtype)}
	walk, reason := c.client.Begin(question, s.domain, presence(v), time.Now())
	if reason == search.Walked {
		reason = "walked"
	}
	s.results.WithLabelValues(string(reason)).Inc()
	return walk
}

// presence says what v knows of names.
func presence(v *records.View) search.Names {
	return func(q search.Question) search.Presence {
		a := v.Answer(records.Question{Name: q.Name + ".", Type: uint16(q.Type)}, 0)
		switch {
		case a.Forward:
			return search.Outside
		case a.Rcode == dns.RcodeNameError:
			return search.Missing
		case len(a.Answer) == 0:
			return search.Empty
		}
		return search.Full
	}
}

// walkKnown takes the walk on by what is known without waiting, and reports whether it has
// ended.
func (x *exchange) walkKnown() bool {
	for q, ok := x.walk.Next(); ok; q, ok = x.walk.Next() {
		fq := x.step(q)
		m, known := x.server.forwarder.Cached(fq)
		if !known {
			x.wait = &fq
			return false
		}
		x.heard(q, m)
	}
	return true
}

func (x *exchange) step(q search.Question) forward.Query {
	return forward.Query{Name: q.Name + ".", Type: uint16(q.Type), RecursionDesired: true, CheckingDisabled: x.query.cd, DNSSEC: x.query.do}
}

// heard tells the walk what an upstream said; nil for nothing.
func (x *exchange) heard(q search.Question, m *dns.Msg) {
	outcome := search.Failed
	switch {
	case m == nil:
	case m.Rcode == dns.RcodeNameError:
		outcome = search.NXDomain
	case m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0:
		outcome = search.Data
	case m.Rcode == dns.RcodeSuccess:
		outcome = search.NoData
	}
	if uint16(q.Type) == x.query.qtype {
		x.found = m
	}
	x.walk.Heard(outcome)
}

// conclude makes the reply what the end of the walk is.
func (x *exchange) conclude() {
	r := x.walk.Result()
	switch r.Kind {
	case search.Nonexistent:
	case search.Nothing:
		x.reply.Rcode = dns.RcodeSuccess // with the SOA record that is there
	case search.Failure:
		x.refuse(dns.RcodeServerFailure)
	case search.Alias:
		x.alias(r.Target + ".")
	}
}

// alias answers with an alias of target, and with what that has.
func (x *exchange) alias(target string) {
	a := x.server.view().Answer(records.Question{Name: target, Type: x.query.qtype}, x.rotation)
	var ttl uint32
	switch {
	case a.Forward && x.found != nil && len(x.found.Answer) > 0:
		a = records.Answer{Rcode: x.found.Rcode, Answer: x.found.Answer, Ns: x.found.Ns}
		ttl = a.Answer[0].Header().Ttl
	case a.Forward, a.Chase != "", len(a.Answer) == 0:
		return // the client finds it by itself
	default:
		ttl = a.Answer[0].Header().Ttl
	}
	r := x.reply
	r.Rcode, r.Authoritative = a.Rcode, false
	r.Answer = append([]dns.RR{&dns.CNAME{
		Hdr:    dns.RR_Header{Name: x.query.name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: min(ttl, uint32(x.server.opts.TTL/time.Second))},
		Target: target,
	}}, a.Answer...)
	r.Ns, r.Extra = a.Ns, nil
}
