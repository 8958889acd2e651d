//go:build integration

package names

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"sigs.k8s.io/yaml"
)

var (
	seed      = flag.Uint64("seed", 5, "of the objects and questions of TestRandom")
	rounds    = flag.Int("rounds", 8, "how many sets of objects TestRandom makes")
	questions = flag.Int("questions", 1000, "how many questions TestRandom asks about each set")
)

// TestRandom makes objects, asks about them and what is near to them, changes them
// and asks again. Each round's set has grown out of the one before, so that what
// changes and what goes is tested as well as what comes.
func TestRandom(t *testing.T) {
	w := newWorld(t)
	g := &generator{Rand: rand.New(rand.NewPCG(*seed, 5)), w: w}
	asked, explained, cut := 0, map[string]int{}, 0
	for round := range *rounds {
		g.change()
		w.settle()
		for range *questions {
			q := g.question()
			c := w.compare(q)
			c.check(t, q)
			asked++
			for _, name := range c.differences {
				explained[name]++
				if name == truncation {
					cut++
				}
			}
			if t.Failed() {
				t.Fatalf("round %d of seed %d, after %d questions; the Service:\n%s", round+1, *seed, asked, w.describe(q))
			}
		}
	}
	t.Logf("seed %d: %d questions about %d sets of objects (the last: %d Services, %d EndpointSlices, %d namespaces), unexplained differences 0",
		*seed, asked, *rounds, len(w.services), len(w.slices), len(w.namespaces))
	for _, name := range slices.Sorted(maps.Keys(explained)) {
		t.Logf("%5d %s", explained[name], name)
	}
	if cut == 0 {
		t.Error("no reply was cut to the size of a datagram")
	}
}

// describe returns the Service that a question is about and its EndpointSlices.
func (w *world) describe(q question) string {
	labels, _ := labelsOf(q.name)
	svc := w.serviceOf(labels)
	if svc == nil {
		return "none"
	}
	objects := []any{svc.Spec}
	for _, slice := range w.slicesOf(keyOf(svc)) {
		objects = append(objects, slice.Name, slice.Ports, slice.Endpoints)
	}
	text, err := yaml.Marshal(objects)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// question makes one about a name that exists or nearly does.
func (g *generator) question() question {
	q := question{name: g.name(), qtype: g.qtype(), class: dns.ClassINET, size: edns, tcp: g.IntN(3) > 0}
	if isReverse(q.name) && g.IntN(4) > 0 {
		q.qtype = dns.TypePTR
	}
	switch g.IntN(8) {
	case 0:
		q.name = g.capitals(q.name)
	case 1:
		q.edns, q.do, q.size = true, g.IntN(2) == 0, pick(g.Rand, []uint16{0, 512, 1232, 4096})
	case 2:
		q.noRecursion, q.cd, q.ad = g.IntN(2) == 0, g.IntN(2) == 0, g.IntN(2) == 0
	}
	return q
}

func (g *generator) qtype() uint16 {
	if g.IntN(10) == 0 {
		return pick(g.Rand, []uint16{dns.TypeMX, dns.TypeNS, dns.TypeSOA, dns.TypeHTTPS, dns.TypeANY, dns.TypeDS, dns.TypeCAA, dns.TypeAXFR, dns.TypeIXFR, 65280})
	}
	return pick(g.Rand, []uint16{dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSRV, dns.TypeCNAME, dns.TypeTXT, dns.TypePTR})
}

func (g *generator) name() string {
	switch g.IntN(12) {
	case 0:
		return g.reverse()
	case 1:
		return pick(g.Rand, []string{"", "svc.", "pod.", "dns.", "ns.dns.", "dns-version.", "x.", "x.y.svc."}) + zone
	case 2:
		return g.namespaceName() + pick(g.Rand, []string{".svc.", ".pod.", "."}) + zone
	case 3:
		return pick(g.Rand, []string{g.pod(), "x." + g.pod(), "_a._b." + g.pod(), "nobody"}) + "." + g.namespaceName() + ".pod." + zone
	}
	namespace, service := g.serviceName()
	name := service + "." + namespace + ".svc." + zone
	switch g.IntN(6) {
	case 0, 1:
		return name
	case 2:
		return g.host(namespace, service) + "." + name
	case 3:
		return g.underscore(g.protocol()) + "." + name
	case 4:
		return g.underscore(g.port()) + "." + g.underscore(g.protocol()) + "." + name
	}
	return pick(g.Rand, []string{"x", "_", "*", "a.b", "a.b.c", "_http._tcp.x", "_._", "_._tcp", "_http._", `a\.b`, `\000`, "--"}) + "." + name
}

func (g *generator) underscore(label string) string {
	if g.IntN(8) == 0 {
		return label
	}
	return "_" + label
}

func (g *generator) protocol() string {
	return strings.ToLower(pick(g.Rand, []string{"TCP", "TCP", "UDP", "SCTP", "x"}))
}

func (g *generator) port() string { return pick(g.Rand, append(portNames(), "nope")) }

// serviceName is that of a Service, or nearly.
func (g *generator) serviceName() (namespace, name string) {
	if g.IntN(10) == 0 || len(g.w.services) == 0 {
		return g.namespaceName(), pick(g.Rand, []string{"nope", "*", "svc-0"})
	}
	key := pick(g.Rand, slices.Sorted(maps.Keys(g.w.services)))
	namespace, name, _ = strings.Cut(key, "/")
	if g.IntN(20) == 0 {
		namespace = g.namespaceName()
	}
	return namespace, name
}

func (g *generator) namespaceName() string {
	if g.IntN(8) == 0 {
		return "nowhere"
	}
	return pick(g.Rand, slices.Sorted(maps.Keys(g.w.namespaces)))
}

// host is the label of an endpoint, most often of one that the Service has.
func (g *generator) host(namespace, service string) string {
	for _, key := range g.Perm(len(g.w.slices)) {
		slice := g.w.slices[slices.Sorted(maps.Keys(g.w.slices))[key]]
		if ownerOf(slice) != namespace+"/"+service || len(slice.Endpoints) == 0 {
			continue
		}
		e := pick(g.Rand, slice.Endpoints)
		if e.Hostname != nil && g.IntN(4) > 0 {
			return *e.Hostname
		}
		return dashes(e.Addresses[0])
	}
	return pick(g.Rand, append(hostnames(), g.pod()))
}

func dashes(addr string) string { return strings.NewReplacer(".", "-", ":", "-").Replace(addr) }

func (g *generator) pod() string {
	if g.IntN(6) == 0 {
		return pick(g.Rand, []string{"1-2-3", "1-2-3-256", "01-2-3-4", "1-2-3-4-5", "--", "--1", "fd00--", "fd00-0", "--ffff-1-2", "g--1", "1--2--3", "fd00-1-2-3-4-5-6-7"})
	}
	return dashes(g.address(g.IntN(2) == 0))
}

// reverse is the name of an address, or nearly.
func (g *generator) reverse() string {
	addr := g.address(g.IntN(3) > 0)
	if len(g.w.services) > 0 && g.IntN(3) == 0 {
		svc := g.w.services[pick(g.Rand, slices.Sorted(maps.Keys(g.w.services)))]
		if len(svc.Spec.ClusterIPs) > 0 && svc.Spec.ClusterIPs[0] != "None" {
			addr = pick(g.Rand, svc.Spec.ClusterIPs)
		}
	}
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		panic(fmt.Sprintf("%q: %v", addr, err)) // the generator made it
	}
	switch g.IntN(10) {
	case 0:
		_, name, _ = strings.Cut(name, ".")
	case 1:
		name = "x." + name
	case 2:
		name = pick(g.Rand, []string{"in-addr.arpa.", "ip6.arpa.", "svc.in-addr.arpa.", "dns-version.in-addr.arpa.", "svc-1.ns-1.svc.ip6.arpa."})
	}
	return name
}

// capitals turns some letters of a name.
func (g *generator) capitals(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && g.IntN(2) == 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }
