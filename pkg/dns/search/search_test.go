package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const zone = "cluster.local"

// world is all names that there are. Of the cluster's, ancestors exist, too.
type world struct {
	cluster map[string][]Type
	outside map[string]map[Type]response
}

func (w world) names(q Question) Presence {
	if q.Name != zone && !strings.HasSuffix(q.Name, "."+zone) {
		return Outside
	}
	below := false
	for name, types := range w.cluster {
		if name == q.Name {
			if slices.Contains(types, q.Type) {
				return Full
			}
			return Empty
		}
		below = below || strings.HasSuffix(name, "."+q.Name)
	}
	if below {
		return Empty
	}
	return Missing
}

func address(name string, t Type) []string { return []string{fmt.Sprintf("%s/%d", name, t)} }

// plain answers questions as they stand.
func (w world) plain(name string, t Type) response {
	switch w.names(Question{name, t}) {
	case Full:
		return response{records: 1, addresses: address(name, t)}
	case Empty:
		return response{}
	case Missing:
		return response{rcode: nxDomain}
	case Outside:
	}
	if types, ok := w.outside[name]; ok {
		return types[t]
	}
	return response{rcode: nxDomain}
}

func (w world) outcome(q Question) Outcome {
	switch r := w.plain(q.Name, q.Type); {
	case r.rcode == nxDomain:
		return NXDomain
	case r.rcode != noError:
		return Failed
	case r.records == 0:
		return NoData
	}
	return Data
}

// walking answers as the server would; asked counts what upstreams are asked.
func (w world) walking(c *Client, now time.Time, asked *[]Question) server {
	return func(name string, t Type) response {
		q := Question{name, t}
		if p := w.names(q); p == Full || p == Empty {
			return w.plain(name, t)
		}
		walk, _ := c.Begin(q, zone, w.names, now)
		if walk == nil {
			if w.names(q) == Outside {
				*asked = append(*asked, q)
			}
			return w.plain(name, t)
		}
		for q, ok := walk.Next(); ok; q, ok = walk.Next() {
			*asked = append(*asked, q)
			walk.Heard(w.outcome(q))
		}
		switch r := walk.Result(); r.Kind {
		case Alias:
			end := w.plain(r.Target, t)
			end.records++
			return end
		case Nothing:
			return response{}
		case Failure:
			return response{rcode: servFail}
		case Nonexistent:
		}
		return response{rcode: nxDomain}
	}
}

func standard(more ...string) Resolver {
	r, ok := ForPod(Pod{Namespace: "default"}, Resolver{Domains: more}, zone)
	if !ok {
		panic("a pod like any other is not known")
	}
	return r
}

func v4(name string) response { return response{records: 1, addresses: address(name, A)} }

func v6(name string) response { return response{records: 1, addresses: address(name, AAAA)} }

// sample has names that end searches in all the ways that there are.
func sample() world {
	both := func(name string) map[Type]response { return map[Type]response{A: v4(name), AAAA: v6(name)} }
	nothing := response{rcode: nxDomain}
	return world{
		cluster: map[string][]Type{
			"web.default.svc.cluster.local":        {A},
			"web.prod.svc.cluster.local":           {A, AAAA},
			"0.web.prod.svc.cluster.local":         {A},
			"com.default.svc.cluster.local":        {A},
			"com.prod.svc.cluster.local":           {A},
			"kubernetes.default.svc.cluster.local": {A},
		},
		outside: map[string]map[Type]response{
			"www.example.org":               both("www.example.org"),
			"example.org":                   both("example.org"),
			"example.com":                   both("example.com"),
			"v4.example.org":                {A: v4("v4.example.org"), AAAA: {}},
			"mx.only.example.org":           {A: {}, AAAA: {}},
			"broken.at.example.org":         {A: v4("broken.at.example.org"), AAAA: nothing},
			"broken.six.example.org":        {A: nothing, AAAA: v6("broken.six.example.org")},
			"fails.at.example.org":          {A: {rcode: servFail}, AAAA: {rcode: servFail}},
			"half.fails.example.org":        {A: v4("half.fails.example.org"), AAAA: {rcode: servFail}},
			"www.intra.net.corp.example":    both("www.intra.net.corp.example"),
			"broken.in.mid.corp.example":    {A: v4("broken.in.mid.corp.example"), AAAA: nothing},
			"broken.in.mid":                 both("broken.in.mid"),
			"empty.in.mid.corp.example":     {A: {}, AAAA: {}},
			"empty.in.mid":                  both("empty.in.mid"),
			"fails.in.mid.corp.example":     {A: {rcode: servFail}, AAAA: {rcode: servFail}},
			"fails.in.mid":                  both("fails.in.mid"),
			"mydb.corp.example":             both("mydb.corp.example"),
			"a.name.with.very.many.dots.io": both("a.name.with.very.many.dots.io"),
		},
	}
}

func resolvers() map[string]resolver {
	return map[string]resolver{"glibc": glibc, "musl": musl, "Go": golang}
}

func families() map[string][]Type {
	return map[string][]Type{"both": {A, AAAA}, "IPv4": {A}, "IPv6": {AAAA}}
}

// TestSearchesEndWhereTheyWould holds each resolver, for each name, against a
// server that knows nothing of searching.
func TestSearchesEndWhereTheyWould(t *testing.T) {
	w := sample()
	var lookups []string
	for name := range w.outside {
		lookups = append(lookups, name, strings.TrimSuffix(name, ".corp.example"))
	}
	for name := range w.cluster {
		lookups = append(lookups, name, strings.TrimSuffix(name, ".svc.cluster.local"), name+".")
	}
	lookups = append(lookups, "nowhere.to.be.found", "nowhere", "web", "web.prod.svc", "mydb", "mydb.default.svc.cluster.local",
		"www.example.org.default", "x.y.z.default.svc.cluster.local", "0.web", "1.web.prod", "_http._tcp.web.prod")
	slices.Sort(lookups)
	for kind, resolve := range resolvers() {
		for family, types := range families() {
			for _, r := range []Resolver{standard(), standard("corp.example"), standard("corp.example", "example.org"), {Domains: []string{"svc.cluster.local"}, Ndots: 3}} {
				c, now := NewClient(r), time.Unix(1000, 0)
				for range 2 { // the second time it is known what the client searches for
					for _, name := range lookups {
						var asked []Question
						now = now.Add(time.Second)
						want := resolve(w.plain, r, name, types)
						if got := resolve(w.walking(c, now, &asked), r, name, types); got != want {
							t.Errorf("%s, %s, %v: %s: got %v, want %v", kind, family, r.Domains, name, got, want)
						}
					}
				}
			}
		}
	}
}

// TestRandomWorlds does the same with names that exist by chance.
func TestRandomWorlds(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	any := func(from ...string) string { return from[rng.IntN(len(from))] }
	label := func() string { return any("a", "b", "web", "com", "default", "svc") }
	walked := 0
	for range 3000 {
		w := world{cluster: map[string][]Type{}, outside: map[string]map[Type]response{}}
		for range rng.IntN(6) {
			types := [][]Type{{A}, {AAAA}, {A, AAAA}, {}}[rng.IntN(4)]
			w.cluster[label()+"."+any("default", "a", "com")+".svc."+zone] = types
			w.cluster[label()+"."+label()+"."+any("default", "a")+".svc."+zone] = types
		}
		r := standard([][]string{nil, {"corp"}, {"corp", "b"}}[rng.IntN(3)]...)
		var names []string
		for range 8 {
			name := label()
			for range rng.IntN(4) {
				name += "." + label()
			}
			names = append(names, name)
			for _, full := range append([]string{""}, r.Domains[3:]...) {
				full = strings.TrimSuffix(name+"."+full, ".")
				one := func(t Type) response {
					return []response{{rcode: nxDomain}, {}, {rcode: servFail}, {records: 1, addresses: address(full, t)}, {records: 1, addresses: address(full, t)}}[rng.IntN(5)]
				}
				if rng.IntN(2) == 0 {
					w.outside[full] = map[Type]response{A: one(A), AAAA: one(AAAA)}
				}
			}
		}
		kind := any("glibc", "musl", "Go")
		types := families()[any("both", "IPv4", "IPv6")]
		c, now := NewClient(r), time.Unix(1000, 0)
		for range 30 {
			name := names[rng.IntN(len(names))]
			now = now.Add(time.Duration(rng.IntN(20)) * time.Second)
			var asked []Question
			want := resolvers()[kind](w.plain, r, name, types)
			ask, questions := w.walking(c, now, &asked), 0
			got := resolvers()[kind](func(name string, t Type) response { questions++; return ask(name, t) }, r, name, types)
			if got != want {
				t.Fatalf("%s, %v, %v: %s: got %v, want %v\n%v", kind, types, r.Domains, name, got, want, w)
			}
			if questions == len(types) && want.addresses != "" && strings.Count(name, ".") >= 2 {
				walked++
			}
		}
	}
	if walked < 5000 {
		t.Errorf("only %d searches were shortened: that tries little", walked)
	}
}

// TestAbsoluteNamesAreLeftAlone asks for names as they stand, those that are, and
// those that could be. Bait has each of them answered elsewhere.
func TestAbsoluteNamesAreLeftAlone(t *testing.T) {
	w := sample()
	for _, bait := range []string{"mongo-0.dev", "app", "web", "1.web", "0.web.prod", "_http._tcp.example", "x.web.default"} {
		w.outside[bait] = map[Type]response{A: v4(bait), AAAA: v6(bait)}
		w.outside[bait+".corp.example"] = w.outside[bait]
	}
	for kind, resolve := range resolvers() {
		c, now := NewClient(standard("corp.example")), time.Unix(1000, 0)
		for _, name := range []string{
			"mongo-0.dev.default.svc.cluster.local", "app.default.svc.cluster.local", "1.web.default.svc.cluster.local",
			"_http._tcp.example.default.svc.cluster.local", "web.default.svc.cluster.local", "0.web.prod.svc.cluster.local",
		} {
			for _, dot := range []string{".", ""} {
				now = now.Add(time.Second)
				var asked []Question
				want := resolve(w.plain, c.resolver, name+dot, []Type{A, AAAA})
				if got := resolve(w.walking(c, now, &asked), c.resolver, name+dot, []Type{A, AAAA}); got != want {
					t.Errorf("%s: %s%s: got %v, want %v", kind, name, dot, got, want)
				}
			}
		}
	}
}

func TestReasons(t *testing.T) {
	w := sample()
	now := time.Unix(1000, 0)
	long := strings.Repeat(strings.Repeat("x", 57)+".", 4) + "org"
	for _, tt := range []struct {
		name  string
		r     Resolver
		q     Question
		after []string // what the client has asked for before
		want  Reason
	}{
		{"a first step", standard(), Question{"www.example.org.default.svc.cluster.local", A}, nil, Walked},
		{"another type", standard(), Question{"www.example.org.default.svc.cluster.local", 16}, nil, OtherType},
		{"no list", Resolver{Ndots: 5}, Question{"www.example.org.default.svc.cluster.local", A}, nil, NoSearch},
		{"the root in the list", standard("."), Question{"www.example.org.default.svc.cluster.local", A}, nil, NoSearch},
		{"more than old versions read", standard("a", "b", "c", "d"), Question{"www.example.org.default.svc.cluster.local", A}, nil, NoSearch},
		{"the second domain", standard(), Question{"www.example.org.svc.cluster.local", A}, nil, NotFirst},
		{"a name outside", standard(), Question{"www.example.org", A}, nil, NotFirst},
		{"a first domain outside", Resolver{Domains: []string{"corp.example", "cluster.local"}, Ndots: 5}, Question{"www.example.org.corp.example", A}, nil, NotFirst},
		{"the domain itself", standard(), Question{"default.svc.cluster.local", A}, nil, NotFirst},
		{"dots", standard(), Question{"a.b.c.d.e.f.default.svc.cluster.local", A}, nil, EnoughDots},
		{"long", standard(), Question{long + ".default.svc.cluster.local", A}, nil, TooLong},
		{"one label", standard(), Question{"app.default.svc.cluster.local", A}, nil, Ambiguous},
		{"two labels", standard(), Question{"example.org.default.svc.cluster.local", A}, nil, Ambiguous},
		{"two labels, searched for before", standard(), Question{"example.org.default.svc.cluster.local", A},
			[]string{"example.org.default.svc.cluster.local", "example.org.svc.cluster.local"}, Walked},
		{"two labels, asked for twice only", standard(), Question{"example.org.default.svc.cluster.local", A},
			[]string{"example.org.default.svc.cluster.local", "example.org.default.svc.cluster.local"}, Ambiguous},
		{"two labels, and the name alone", standard(), Question{"example.org.default.svc.cluster.local", A},
			[]string{"example.org.default.svc.cluster.local", "example.org"}, Ambiguous},
		{"a Service of that name", standard(), Question{"example.com.default.svc.cluster.local", A},
			[]string{"example.com.default.svc.cluster.local", "example.com.svc.cluster.local"}, Ambiguous},
		{"a port", standard(), Question{"_http._tcp.web.default.svc.cluster.local", A}, nil, Ambiguous},
		{"the second step of a search", standard(), Question{"www.example.org.default.svc.cluster.local", A},
			[]string{"www.example.org.default.default.svc.cluster.local"}, LaterStep},
		{"the last step of a search", standard(), Question{"x.y.z.default.svc.cluster.local", A},
			[]string{"x.y.z.default.svc.cluster.local.default.svc.cluster.local"}, LaterStep},
		{"an escape", standard(), Question{`www\.example.org.x.default.svc.cluster.local`, A}, nil, NoSearch},
		{"a name that is", standard(), Question{"web.default.svc.cluster.local", A}, nil, Exists},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewClient(tt.r)
			for _, name := range tt.after {
				c.Begin(Question{name, AAAA}, zone, w.names, now)
			}
			if walk, got := c.Begin(tt.q, zone, w.names, now.Add(time.Second)); got != tt.want || (walk != nil) != (got == Walked) {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

// TestCost counts what a search costs the client and the upstream.
func TestCost(t *testing.T) {
	w := sample()
	for _, tt := range []struct {
		name                  string
		r                     Resolver
		plain, first, again   int // questions of the client
		upstreamWas, upstream int // questions to the upstream, the first time
	}{
		{"www.example.org", standard(), 8, 2, 2, 2, 2},
		{"www.example.org", standard("corp.example"), 10, 2, 2, 4, 4},
		{"example.org", standard(), 8, 8, 2, 2, 2},
		{"web", standard(), 2, 2, 2, 0, 0},
		{"web.prod", standard(), 4, 4, 4, 0, 0},
		{"web.prod.svc.cluster.local", standard(), 8, 2, 2, 0, 0},
		{"a.name.with.very.many.dots.io", standard(), 2, 2, 2, 2, 2},
		{"nowhere.to.be.found", standard(), 8, 8, 8, 2, 2},
	} {
		c, now := NewClient(tt.r), time.Unix(1000, 0)
		count := func(ask server) (questions int) {
			glibc(func(name string, t Type) response { questions++; return ask(name, t) }, tt.r, tt.name, []Type{A, AAAA})
			return questions
		}
		var asked, ignored []Question
		distinct := map[Question]bool{}
		upstreamWas := map[Question]bool{}
		plain := count(func(name string, t Type) response {
			if q := (Question{name, t}); w.names(q) == Outside {
				upstreamWas[q] = true
			}
			return w.plain(name, t)
		})
		first := count(w.walking(c, now, &asked))
		again := count(w.walking(c, now.Add(time.Minute), &ignored))
		for _, q := range asked {
			distinct[q] = true // the others are in the cache
		}
		got := []int{plain, first, again, len(upstreamWas), len(distinct)}
		if diff := cmp.Diff([]int{tt.plain, tt.first, tt.again, tt.upstreamWas, tt.upstream}, got); diff != "" {
			t.Errorf("%s: plain, first, again, upstream plain, upstream: got %v\n%s", tt.name, got, diff)
		}
	}
}

func TestForPod(t *testing.T) {
	node := Resolver{Domains: []string{"corp.example", "svc.cluster.local"}, Ndots: 2}
	cluster := []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}
	for name, tt := range map[string]struct {
		pod  Pod
		want Resolver
		ok   bool
	}{
		"usual":                {Pod{Namespace: "shop", Policy: ClusterFirst}, Resolver{cluster, 5}, true},
		"no policy":            {Pod{Namespace: "shop"}, Resolver{cluster, 5}, true},
		"host network":         {Pod{Namespace: "shop", HostNetwork: true, Policy: ClusterFirstWithHostNet}, Resolver{}, false},
		"not on host network":  {Pod{Namespace: "shop", Policy: ClusterFirstWithHostNet}, Resolver{cluster, 5}, true},
		"the node's":           {Pod{Namespace: "shop", Policy: Default}, Resolver{}, false},
		"unheard of":           {Pod{Namespace: "shop", Policy: "Later"}, Resolver{}, false},
		"more domains, ndots":  {Pod{Namespace: "shop", Searches: []string{"X.example.", "corp.example"}, Options: []Option{{"timeout", "1"}, {"ndots", "2"}}}, Resolver{append(slices.Clip(cluster), "x.example"), 2}, true},
		"none":                 {Pod{Namespace: "shop", Policy: None, Searches: []string{"a.example"}}, Resolver{[]string{"a.example"}, 1}, true},
		"none at all":          {Pod{Namespace: "shop", Policy: None}, Resolver{nil, 1}, true},
		"ndots without value":  {Pod{Namespace: "shop", Policy: None, Options: []Option{{"ndots", ""}}}, Resolver{nil, 1}, true},
		"ndots beyond reason":  {Pod{Namespace: "shop", Policy: None, Options: []Option{{"ndots", "99"}}}, Resolver{nil, 15}, true},
		"ndots that is a word": {Pod{Namespace: "shop", Policy: None, Options: []Option{{"ndots", "many"}}}, Resolver{nil, 0}, true},
	} {
		got, ok := ForPod(tt.pod, node, "Cluster.local.")
		if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
			t.Errorf("%s: ok %v (-want +got):\n%s", name, ok, diff)
		}
	}
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("d%d.example", i))
	}
	if got, _ := ForPod(Pod{Policy: None, Searches: many}, node, zone); len(got.Domains) != kubeletMaxDomains || got.usable() {
		t.Errorf("%d domains", len(got.Domains))
	}
}

func TestParseResolvConf(t *testing.T) {
	got := ParseResolvConf("search a.example\n# search b.example\nnameserver 192.0.2.1\noptions timeout:1 ndots:3\nsearch C.example. . d.example\n")
	if diff := cmp.Diff(Resolver{[]string{"c.example", "d.example"}, 3}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestHistoryIsBounded has a client search for names without end.
func TestHistoryIsBounded(t *testing.T) {
	c, now := NewClient(standard()), time.Unix(1000, 0)
	w := sample()
	for i := range 10 * remembered {
		now = now.Add(time.Millisecond)
		for _, d := range c.resolver.Domains {
			c.Begin(Question{fmt.Sprintf("n%d.example.%s", i, d), A}, zone, w.names, now)
		}
	}
	if len(c.history.searches) != remembered {
		t.Errorf("%d searches are remembered", len(c.history.searches))
	}
	last := fmt.Sprintf("n%d.example", 10*remembered-1)
	if _, got := c.Begin(Question{last + ".default.svc.cluster.local", A}, zone, w.names, now); got != Walked {
		t.Errorf("the latest was forgotten: %q", got)
	}
	if _, got := c.Begin(Question{"n0.example.default.svc.cluster.local", A}, zone, w.names, now); got != Ambiguous {
		t.Errorf("the first is still known: %q", got)
	}
	if _, got := c.Begin(Question{last + ".default.svc.cluster.local", A}, zone, w.names, now.Add(2*evident)); got != Ambiguous {
		t.Errorf("what was searched for hours ago counts: %q", got)
	}
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add("search a.example b.example\noptions ndots:5\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := ParseResolvConf(text)
		if r.Ndots < 0 || r.Ndots > maxNdots {
			t.Errorf("ndots %d", r.Ndots)
		}
		ForPod(Pod{Namespace: "x", Searches: r.Domains}, r, zone)
	})
}

// FuzzBegin asks for any name: a walk ends, and after no more steps than there are.
func FuzzBegin(f *testing.F) {
	f.Add("www.example.org.default.svc.cluster.local", "corp.example", byte(0b1101))
	f.Fuzz(func(t *testing.T, name, domain string, outcomes byte) {
		c, w := NewClient(standard(canonical(domain))), sample()
		for _, n := range []string{name, parent(name), name} {
			walk, _ := c.Begin(Question{n, A}, zone, w.names, time.Unix(1000, 0))
			if walk == nil {
				continue
			}
			steps := 0
			for q, ok := walk.Next(); ok; q, ok = walk.Next() {
				if q.Name == "" || len(q.Name) > maxName {
					t.Errorf("asks for %q", q.Name)
				}
				if steps++; steps > 2*len(c.resolver.Domains)+1 {
					t.Fatal("the walk does not end")
				}
				walk.Heard(Outcome(outcomes & 3))
				outcomes >>= 1
			}
		}
	})
}

func BenchmarkBegin(b *testing.B) {
	c, now := NewClient(standard()), time.Unix(1000, 0)
	for i := range remembered {
		c.history.note(fmt.Sprintf("host-%d.example.org", i), now)
	}
	names := func(q Question) Presence {
		if strings.HasSuffix(q.Name, zone) {
			return Missing
		}
		return Outside
	}
	b.ReportAllocs()
	for b.Loop() {
		if walk, _ := c.Begin(Question{"www.example.org.default.svc.cluster.local", A}, zone, names, now); walk == nil {
			b.Fatal("not walked")
		}
	}
}
