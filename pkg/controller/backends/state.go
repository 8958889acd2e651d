package backends

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/signpost-dev/signpost/pkg/controller/backends/check"
	"github.com/signpost-dev/signpost/pkg/controller/backends/plan"
	"github.com/signpost-dev/signpost/pkg/controller/backends/verdict"
	"github.com/signpost-dev/signpost/pkg/model"
)

// state is what is known of one Service. Controller.mu guards it.
type state struct {
	uid     types.UID
	request check.Request
	// problems are what cannot be used beside what the request says.
	problems []model.Problem
	backends map[netip.AddrPort]*backend
	// unchecked counts the backends that no check is for.
	unchecked int
	// heard is when a node last had a finding, or when it was begun to ask.
	heard time.Time
	// asks and resolves say that the Service is in these queues.
	asks, resolves bool
	names          names
	// open has the families of which none works.
	open map[bool]bool // by whether it is IPv4
}

// backend is one that is checked, and what is known of it.
type backend struct {
	key      check.Key
	findings []verdict.Finding
	opinion  verdict.Opinion
}

// set takes in what the Service asks for and which backends there are by now. What
// is published in ours is how a backend begins that was not known here.
func (s *state) set(uid types.UID, request check.Request, sources, ours []*discoveryv1.EndpointSlice) {
	if s.uid != uid || !sameCheck(s.request.Check, request.Check) {
		s.uid, s.backends, s.heard = uid, nil, time.Now()
	}
	s.request = request
	was := s.backends
	s.backends, s.unchecked, s.problems = map[netip.AddrPort]*backend{}, 0, nil
	var published map[netip.AddrPort]verdict.Opinion
	for _, source := range sources {
		var port uint16
		if request.Check != nil {
			n, err := request.Check.PortOf(source.Ports)
			if err != nil && len(source.Endpoints) > 0 {
				s.problems = append(s.problems, model.Problem{Field: "EndpointSlice " + source.Name, Message: err.Error()})
			}
			port = n
		}
		for i := range source.Endpoints {
			e := &source.Endpoints[i]
			addr, ok := check.AddrOf(e)
			if !ok || !plan.IsReady(e) {
				continue
			}
			if port == 0 {
				s.unchecked++
				continue
			}
			at := netip.AddrPortFrom(addr, port)
			if s.backends[at] = was[at]; was[at] == nil {
				if published == nil {
					published = publishedIn(ours, request.Check)
				}
				s.backends[at] = &backend{key: request.Check.KeyOf(uid, at), opinion: published[at]}
			}
		}
	}
}

func sameCheck(a, b *check.Check) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// publishedIn says how backends were that slices of ours have: one that was in may
// have been so because none worked, but for one that was out there was a majority.
func publishedIn(ours []*discoveryv1.EndpointSlice, c *check.Check) map[netip.AddrPort]verdict.Opinion {
	out := map[netip.AddrPort]verdict.Opinion{}
	for _, s := range ours {
		port, err := c.PortOf(s.Ports)
		if err != nil {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if addr, ok := check.AddrOf(e); ok {
				o := verdict.Opinion{State: verdict.Down}
				if e.Conditions.Serving == nil || *e.Conditions.Serving {
					o = verdict.Opinion{Works: true}
				}
				out[netip.AddrPortFrom(addr, port)] = o
			}
		}
	}
	return out
}

// decide works out which backends work, and says whether that, or what there is to
// tell of it, is other than before. nodes is how many there are.
func (s *state) decide(nodes int, now time.Time) (news bool) {
	blind := s.request.Check != nil && now.Sub(s.heard) > patience(s.request.Check)
	open := map[bool]bool{}
	for _, ipv4 := range []bool{true, false} {
		var of []*backend
		var in []verdict.Backend
		for _, at := range s.sorted() {
			if b := s.backends[at]; at.Addr().Is4() == ipv4 {
				of = append(of, b)
				in = append(in, verdict.Backend{Findings: b.findings, Last: b.opinion.State, Published: b.opinion.Works})
			}
		}
		opinions, none := verdict.Decide(in, verdict.Quorum(nodes), blind)
		if none {
			open[ipv4] = true
		}
		for i, o := range opinions {
			news = news || of[i].opinion != o
			of[i].opinion = o
		}
	}
	news = news || !maps.Equal(open, s.open)
	s.open = open
	return news
}

// patience is how long no node may find anything before that counts as blindness:
// longer than it takes one to begin.
func patience(c *check.Check) time.Duration { return 3*(c.Interval+c.Timeout) + 10*time.Second }

func (s *state) sorted() []netip.AddrPort {
	return slices.SortedFunc(maps.Keys(s.backends), netip.AddrPort.Compare)
}

// failing returns those that are to get nothing, as a copy.
func (s *state) failing() map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for at, b := range s.backends {
		if !b.opinion.Works {
			out[at] = true
		}
	}
	return out
}
