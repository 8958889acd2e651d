package search

import (
	"strings"
	"time"
)

// Type is that of a question, as in DNS.
type Type uint16

// The types that are walked for.
const (
	A    Type = 1
	AAAA Type = 28
)

func (t Type) sibling() Type { return A + AAAA - t }

// Question is a name in lower case, without a dot at its end, and a type.
type Question struct {
	Name string
	Type Type
}

// Presence is what the cluster's records say of a name and a type.
type Presence uint8

// What can be said.
const (
	// Outside: it is not the cluster's to say; an upstream must be asked.
	Outside Presence = iota
	// Missing is NXDOMAIN.
	Missing
	// Empty means that the name exists, but has no record of the type.
	Empty
	// Full means that there is a record in the answer section, be it an alias.
	Full
)

// Names says what the cluster's records say.
type Names func(Question) Presence

// Outcome is what an upstream says of a question.
type Outcome uint8

// What can be said, by the response code first.
const (
	// NXDomain: there is no such name, or none at the end of its aliases.
	NXDomain Outcome = iota
	// NoData: no error, and the answer section is empty.
	NoData
	// Data: no error, and there is something in the answer section.
	Data
	// Failed: anything else, and no answer at all.
	Failed
)

// Reason is why a question is not walked.
type Reason string

// The reasons.
const (
	Walked     Reason = ""                 // it is
	OtherType  Reason = "other type"       // neither A nor AAAA
	NoSearch   Reason = "no usable list"   // there is no search list, or not all resolvers read it alike
	NotFirst   Reason = "not a first step" // not of the first search domain, or of one outside the cluster
	LaterStep  Reason = "later step"       // of a search that is under way
	EnoughDots Reason = "enough dots"      // the name was tried as it is before
	TooLong    Reason = "too long"         // a step is longer than a name can be
	Ambiguous  Reason = "may be absolute"  // it could be a name of the cluster
	Exists     Reason = "exists"           // it is a name of the cluster
)

// Client is a pod that asks. Its methods must not be called by two goroutines at a
// time.
type Client struct {
	resolver Resolver
	history  History
}

// NewClient returns a client that searches like r.
func NewClient(r Resolver) *Client { return &Client{resolver: r} }

// Begin decides on a question of the client that the cluster's records know
// nothing of, domain being the cluster's. It must be called for all those, also
// for names outside the cluster: that is how it learns of searches. The walk is nil
// if the question must be answered as it stands, for the reason given.
func (c *Client) Begin(q Question, domain string, names Names, now time.Time) (*Walk, Reason) {
	if q.Type != A && q.Type != AAAA {
		return nil, OtherType
	}
	r := c.resolver
	if !r.usable() || strings.Contains(q.Name, `\`) {
		return nil, NoSearch
	}
	later := c.history.isLaterStep(q.Name, r, now)
	base, ok := strings.CutSuffix(q.Name, "."+r.Domains[0])
	if !ok || base == "" {
		if later {
			return nil, LaterStep
		}
		return nil, NotFirst
	}
	searched := c.history.note(base, now)
	switch {
	case later:
		return nil, LaterStep
	case strings.Count(base, ".") >= r.Ndots:
		return nil, EnoughDots
	case tooLong(base, r):
		return nil, TooLong
	}
	switch names(q) {
	case Outside:
		return nil, NotFirst
	case Empty, Full:
		return nil, Exists
	case Missing:
	}
	if couldExist(q.Name, domain) && (!searched || names(Question{parent(q.Name), q.Type}) != Missing) {
		return nil, Ambiguous
	}
	return newWalk(base, q.Type, r, names), Walked
}

// tooLong reports whether a step cannot be asked for: some resolvers leave it out
// then, others give up.
func tooLong(base string, r Resolver) bool {
	for _, d := range r.Domains {
		if len(base)+1+len(d) > maxName {
			return true
		}
	}
	return false
}

// couldExist reports whether objects are possible that name would be a name of:
// those of Services have one to three labels below "svc" (namespace, Service,
// endpoint), or underscores.
func couldExist(name, domain string) bool {
	below, ok := strings.CutSuffix(name, ".svc."+domain)
	return !ok || strings.Count(below, ".") < 3 || strings.HasPrefix(below, "_") || strings.Contains(below, "._")
}

func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

// Walk is the search for one question's end. What the cluster's records say it
// knows; what upstreams say it asks for:
//
//	for q, ok := w.Next(); ok; q, ok = w.Next() {
//		w.Heard(…)
//	}
//	… w.Result()
type Walk struct {
	qtype  Type
	steps  []string // what is left, the name itself at last
	names  Names
	asking Question // what must be heard of next, if there is something
	result Result
	ended  bool
}

// Kind is how a question is to be answered.
type Kind uint8

// How it can be.
const (
	// Nonexistent: NXDOMAIN, as the records have it.
	Nonexistent Kind = iota
	// Alias: a CNAME record that leads to the target, and after it the target's
	// answer, with its response code.
	Alias
	// Nothing: no error and an empty answer section, with the SOA record of the
	// cluster's zone. There must be no alias.
	Nothing
	// Failure: SERVFAIL.
	Failure
)

// Result is the end of a walk. Target is the name that it is at, if it is any.
type Result struct {
	Kind   Kind
	Target string
}

func newWalk(base string, qtype Type, r Resolver, names Names) *Walk {
	w := &Walk{qtype: qtype, names: names}
	for _, d := range r.Domains[1:] {
		w.steps = append(w.steps, base+"."+d)
	}
	w.steps = append(w.steps, base)
	w.advance()
	return w
}

// Next returns what an upstream must be asked, or false if the walk has ended.
func (w *Walk) Next() (Question, bool) { return w.asking, !w.ended }

// Result returns the end of the walk, which must have ended.
func (w *Walk) Result() Result { return w.result }

func (w *Walk) end(k Kind, target string) { w.result, w.ended = Result{k, target}, true }

// advance goes to the first step that is not known to be missing.
func (w *Walk) advance() {
	for ; len(w.steps) > 0; w.steps = w.steps[1:] {
		step := w.steps[0]
		switch w.names(Question{step, w.qtype}) {
		case Outside:
			w.asking = Question{step, w.qtype}
			return
		case Empty:
			w.end(Nothing, step)
			return
		case Full:
			w.end(Alias, step)
			return
		case Missing:
		}
	}
	w.end(Nonexistent, "")
}

// Heard tells the outcome of the question that Next returned.
func (w *Walk) Heard(o Outcome) {
	if w.asking.Type != w.qtype {
		// The step does not exist for the type asked for. If it does for the other, the
		// search is over for both.
		if o != NXDomain {
			w.end(Nonexistent, w.asking.Name)
			return
		}
		w.steps = w.steps[1:]
		w.advance()
		return
	}
	switch o {
	case Data:
		w.end(Alias, w.asking.Name)
	case NoData:
		w.end(Nothing, w.asking.Name)
	case Failed:
		w.end(Failure, w.asking.Name)
	case NXDomain:
		if len(w.steps) == 1 {
			w.end(Nonexistent, "")
			return
		}
		w.asking.Type = w.qtype.sibling()
	}
}
