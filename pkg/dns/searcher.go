package dns

import (
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/dns/search"
	"github.com/signpost-dev/signpost/pkg/model"
)

// Clients tell whose addresses clients have.
type Clients interface {
	// PodAt returns the pod of this node that has the address, or nil if nobody can
	// tell. It is the same pointer as long as nothing of the pod changes. It may be
	// called from any goroutine.
	PodAt(a netip.Addr) *model.Pod
}

// maxSearching is how many clients are remembered before those that are no pods
// any more are forgotten. A node has 110 pods, or a few times that.
const maxSearching = 1024

// searcher walks the search lists of this node's pods in their place, see package
// search. A nil searcher walks none.
type searcher struct {
	clients Clients
	// resolvConf is the file that the kubelet adds to what it writes for pods.
	resolvConf string
	domain     string
	log        *slog.Logger
	searches   *prometheus.CounterVec
	now        func() time.Time

	mu    sync.Mutex
	known map[netip.Addr]*searching
}

// searching is a pod that asks.
type searching struct {
	pod *model.Pod

	mu     sync.Mutex
	client *search.Client
}

func newSearcher(o *Options) *searcher {
	if o.Clients == nil {
		return nil
	}
	s := &searcher{
		clients: o.Clients, resolvConf: o.ResolvConf, domain: strings.ToLower(strings.TrimSuffix(o.Domain, ".")), log: o.Log,
		now: time.Now, known: map[netip.Addr]*searching{},
		searches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "signpost_dns_search_total",
			Help: "Questions of pods of this node for names that nobody of the cluster has: whether the search list was walked for them, or why not.",
		}, []string{"result"}),
	}
	o.Registerer.MustRegister(s.searches)
	return s
}

// begin returns the walk that answers q of a client, or nil if q must be answered
// as it stands. It must be told of all questions for A and AAAA that are for no
// name of the cluster.
func (s *searcher) begin(client netip.Addr, q search.Question, names search.Names) *search.Walk {
	if s == nil {
		return nil
	}
	pod := s.clients.PodAt(client)
	if pod == nil {
		return nil
	}
	who := s.searching(client, pod)
	who.mu.Lock()
	defer who.mu.Unlock()
	walk, reason := who.client.Begin(q, s.domain, names, s.now())
	result := string(reason)
	if walk != nil {
		result = "walked"
	}
	s.searches.WithLabelValues(result).Inc()
	return walk
}

// mayWalk reports whether a question for a name that does not exist may have
// another answer for the client than for others.
func (s *searcher) mayWalk(client netip.Addr, qtype uint16) bool {
	return s != nil && isWalked(qtype) && s.clients.PodAt(client) != nil
}

func isWalked(qtype uint16) bool { return qtype == dns.TypeA || qtype == dns.TypeAAAA }

// searching returns what is remembered of the pod, which has the address now.
func (s *searcher) searching(a netip.Addr, pod *model.Pod) *searching {
	s.mu.Lock()
	defer s.mu.Unlock()
	if who := s.known[a]; who != nil && who.pod == pod {
		return who
	}
	if len(s.known) >= maxSearching {
		for old, who := range s.known {
			if s.clients.PodAt(old) != who.pod {
				delete(s.known, old)
			}
		}
	}
	who := &searching{pod: pod, client: search.NewClient(s.resolver(pod))}
	s.known[a] = who
	return who
}

// resolver returns how the pod searches; one that does not stands for all of which
// it is not known.
func (s *searcher) resolver(pod *model.Pod) search.Resolver {
	// The kubelet read the file when it made the pod. Nobody says what was in it
	// then, but it hardly ever changes.
	text, err := os.ReadFile(s.resolvConf)
	if err != nil {
		s.log.Error("cannot tell how a pod searches for names", "pod", pod.Name.String(), "error", err)
		return search.Resolver{}
	}
	p := search.Pod{Namespace: pod.Name.Namespace, HostNetwork: pod.HostNetwork, Policy: search.Policy(pod.DNSPolicy), Searches: pod.Searches}
	for _, o := range pod.Options {
		p.Options = append(p.Options, search.Option(o))
	}
	r, _ := search.ForPod(p, search.ParseResolvConf(string(text)), s.domain)
	return r
}

// presence tells a walk what the view says of names.
func presence(v *records.View) search.Names {
	return func(q search.Question) search.Presence {
		a := v.Answer(records.Question{Name: dns.Fqdn(q.Name), Type: uint16(q.Type)}, 0)
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

// outcomeOf is what an upstream's answer means for a walk.
func outcomeOf(m *dns.Msg) search.Outcome {
	switch {
	case m.Rcode == dns.RcodeNameError:
		return search.NXDomain
	case m.Rcode != dns.RcodeSuccess:
		return search.Failed
	case len(m.Answer) == 0:
		return search.NoData
	}
	return search.Data
}
