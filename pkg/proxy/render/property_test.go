package render_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// randomService returns some version of one of 60 Services, many of them odd:
// without ports, with the address or node port of another, with names that no
// API server lets pass.
func randomService(rng *rand.Rand) *model.Service {
	i := rng.IntN(60)
	svc := service(fmt.Sprint("s", i), fmt.Sprintf("10.%d.%d.%d,fd00::%x", 96+i%3, i%5, 4*i+rng.IntN(9), 4*i+rng.IntN(9)))
	svc.Headless = rng.IntN(10) == 0
	svc.OtherProxy = rng.IntN(15) == 0
	svc.Ports = nil
	for p := range rng.IntN(4) {
		port := model.ServicePort{
			Name: fmt.Sprint("p", p), Protocol: []model.Protocol{model.TCP, model.UDP, model.SCTP, "QUIC"}[rng.IntN(4)],
			Port: uint16(rng.IntN(4)), NodePort: uint16(rng.IntN(2) * (30000 + rng.IntN(200))),
		}
		if rng.IntN(20) == 0 {
			port.Name = "a\nCOMMIT\n\"b"
		}
		svc.Ports = append(svc.Ports, port)
	}
	randomTraffic(rng, svc)
	svc.Groups = nil
	for range rng.IntN(3) {
		svc.Groups = append(svc.Groups, randomGroup(rng, svc))
	}
	return svc
}

// randomTraffic gives a Service some of what it can say beyond its cluster IPs.
func randomTraffic(rng *rand.Rand, svc *model.Service) {
	some := func(n int) bool { return rng.IntN(n) == 0 }
	addrs := func() []netip.Addr {
		return []netip.Addr{
			netip.AddrFrom4([4]byte{203, 0, 113, byte(rng.IntN(20))}), addr(fmt.Sprintf("2001:db8::%x", rng.IntN(20))),
			addr([]string{"10.96.0.1", "fd00::1", "224.0.0.1"}[rng.IntN(3)]),
		}
	}
	if some(3) {
		svc.ExternalIPs = addrs()
	}
	if some(2) {
		svc.LoadBalancerIPs = addrs()
	}
	if some(3) {
		svc.SourceRanges = []netip.Prefix{prefix("172.16.0.0/16"), prefix("192.168.1.0/24"), prefix("fd99::/16")}[rng.IntN(3):]
	}
	if some(4) {
		svc.AffinityTimeout = time.Duration(1+rng.IntN(3)) * time.Minute
	}
	svc.InternalLocal, svc.ExternalLocal = some(4), some(3)
	if some(5) {
		svc.HealthCheckNodePort = uint16(30000 + rng.IntN(200))
	}
}

func randomGroup(rng *rand.Rand, svc *model.Service) model.EndpointGroup {
	var group model.EndpointGroup
	for _, p := range svc.Ports {
		group.Ports = append(group.Ports, model.EndpointPort{Name: p.Name, Protocol: p.Protocol, Port: uint16(rng.IntN(9) % 3)})
	}
	n := rng.IntN(5)
	if rng.IntN(12) == 0 {
		n = 150
	}
	for range n {
		a := netip.AddrFrom4([4]byte{10, 0, byte(1 + rng.IntN(2)), byte(rng.IntN(9 + n))})
		switch rng.IntN(5) {
		case 0, 1:
			a = addr(fmt.Sprintf("fd02:0:0:%x::%x", 1+rng.IntN(2), rng.IntN(9+n)))
		case 2:
			a = addr([]string{"192.168.1.10", "fd01::10", "172.20.0.9"}[rng.IntN(3)])
		}
		e := model.Endpoint{
			Addr: a, Ready: rng.IntN(3) > 0, Serving: rng.IntN(3) > 0, Terminating: rng.IntN(3) == 0,
			Node: []string{"here", "there", ""}[rng.IntN(3)],
		}
		if rng.IntN(3) > 0 {
			e.Hints = &model.Hints{Nodes: []string{[]string{"here", "there"}[rng.IntN(2)]}, Zones: []string{"z"}}
		}
		group.Endpoints = append(group.Endpoints, e)
	}
	return group
}

// randomConfig returns one of some configurations.
func randomConfig(rng *rand.Rand) render.Config {
	cfg := config()
	if rng.IntN(2) == 0 {
		cfg.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/15"), prefix("fd00::/109")}
	}
	cfg.DetectLocal = []render.Mode{render.DetectAuto, render.DetectNodeCIDR, render.DetectBridgeInterface, render.DetectInterfaceNamePrefix, render.DetectNone}[rng.IntN(5)]
	cfg.DetectInterface = "cni"
	switch rng.IntN(3) {
	case 0:
		cfg.ClusterCIDRs = append(cfg.ClusterCIDRs, prefix("10.9.0.0/16"), prefix("fd09::/64"))
	case 1:
		cfg.ClusterCIDRs = nil
	}
	if rng.IntN(3) == 0 {
		cfg.NodePortAddresses = []netip.Prefix{prefix("192.168.1.0/24"), prefix("172.16.0.0/12"), prefix("fd01::/64")}
	}
	cfg.Kernel.IPSets, cfg.Kernel.Comment = rng.IntN(3) > 0, rng.IntN(4) > 0
	cfg.MasqueradeAll, cfg.LocalhostNodePorts = rng.IntN(4) == 0, rng.IntN(2) == 0
	return cfg
}

// randomChanges returns the next version of some Services: another one, or the
// same with other endpoints.
func randomChanges(rng *rand.Rand, now *model.ServiceMap) map[model.Name]*model.Service {
	changes := map[model.Name]*model.Service{}
	for range 1 + rng.IntN(6) {
		svc := randomService(rng)
		if had := now.Get(svc.Name); had != nil && rng.IntN(3) > 0 {
			same := *had
			same.Groups = nil
			for range rng.IntN(2) {
				same.Groups = append(same.Groups, randomGroup(rng, &same))
			}
			svc = &same
		}
		changes[svc.Name] = svc
		if rng.IntN(8) == 0 {
			changes[svc.Name] = nil
		}
	}
	return changes
}

// TestIncrementalIsFull checks that what comes of many small updates is what one
// render of the result gives, that the text of each difference takes a node from
// one to the next without an error and without a gap, and that the node then has exactly what a new
// one would have.
func TestIncrementalIsFull(t *testing.T) {
	for seed := range uint64(12) {
		for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			t.Run(fmt.Sprint(seed, " ", family), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 7))
				cfg := randomConfig(rng)
				r := render.New(family, cfg, node())
				fake := iptablestest.New(family)
				fake.Local = ofFamily(family, node().Addrs)
				if err := fake.Load(r.Set(), r.Hooks()); err != nil {
					t.Fatal(err)
				}
				var m model.ServiceMap
				for range 40 {
					changes := randomChanges(rng, &m)
					was, old := m, r.Set()
					m = m.With(changes)
					now := r.Update(&m)
					withoutGap(t, fake, ruleset.Diff(old, now), probes(rng, family, &was, &m))
					full := render.Render(family, cfg, node(), &m)
					if want, got := ruleset.Replace(full.Set, nil).Text(), ruleset.Replace(now, nil).Text(); want != got {
						t.Fatalf("(-full +incremental):\n%s", cmp.Diff(want, got))
					}
					for n := range m.All() {
						if want, got := full.Problems[n], r.Problems(n); !slices.Equal(want, got) {
							t.Fatalf("problems of %s: incremental %v, full %v", n, got, want)
						}
					}
					if cfg.Kernel.Comment {
						everyChainSaysWhose(t, now)
					}
				}
				fresh := iptablestest.New(family)
				if err := fresh.Load(r.Set(), r.Hooks()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(fresh.Dump(), fake.Dump()); diff != "" {
					t.Errorf("(-fresh node +updated node):\n%s", diff)
				}
			})
		}
	}
}

func ofFamily(f ruleset.Family, all []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return !f.Has(a) })
}

// probes returns some packets to Services of before and after.
func probes(rng *rand.Rand, family ruleset.Family, maps ...*model.ServiceMap) []iptablestest.Packet {
	sources := map[iptablestest.Origin][]netip.Addr{
		pod: {addr("10.0.1.1"), addr("fd02:0:0:1::1")}, outside: {addr("172.16.0.1"), addr("fd99::1")}, host: node().Addrs,
	}
	var out []iptablestest.Packet
	for _, m := range maps {
		for _, svc := range m.All() {
			for _, p := range svc.Ports {
				dsts := slices.Concat(svc.ClusterIPs, svc.ExternalIPs, svc.LoadBalancerIPs)
				if p.NodePort != 0 && rng.IntN(3) == 0 {
					dsts, p.Port = node().Addrs, p.NodePort
				}
				dsts = slices.DeleteFunc(ofFamily(family, dsts), netip.Addr.IsMulticast)
				if len(dsts) == 0 || p.Protocol == "QUIC" || p.Port == 0 {
					continue
				}
				from := []iptablestest.Origin{pod, outside, host}[rng.IntN(3)]
				out = append(out, iptablestest.Packet{
					From: from, Proto: strings.ToLower(string(p.Protocol)), Src: netip.AddrPortFrom(ofFamily(family, sources[from])[0], 40000),
					Dst: netip.AddrPortFrom(dsts[rng.IntN(len(dsts))], p.Port), In: "cni0",
				})
			}
		}
	}
	// Between Services that want the same anything may happen until it is settled who gets it.
	owners := claims(maps...)
	out = slices.DeleteFunc(out, func(p iptablestest.Packet) bool { return len(owners[claim(p.Dst)]) > 1 })
	rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), 25)]
}

// claim is an address of a Service or, for one of the node, the port.
func claim(dst netip.AddrPort) netip.AddrPort {
	if slices.Contains(node().Addrs, dst.Addr()) {
		return netip.AddrPortFrom(netip.Addr{}, dst.Port())
	}
	return netip.AddrPortFrom(dst.Addr(), 0)
}

// claims says which Services want each thing.
func claims(maps ...*model.ServiceMap) map[netip.AddrPort]map[model.Name]bool {
	out := map[netip.AddrPort]map[model.Name]bool{}
	add := func(at netip.AddrPort, n model.Name) {
		if out[at] == nil {
			out[at] = map[model.Name]bool{}
		}
		out[at][n] = true
	}
	for _, m := range maps {
		for n, svc := range m.All() {
			for _, a := range slices.Concat(svc.ClusterIPs, svc.ExternalIPs, svc.LoadBalancerIPs) {
				add(claim(netip.AddrPortFrom(a, 0)), n)
				for _, p := range svc.Ports { // the address may be the node's
					add(claim(netip.AddrPortFrom(a, p.Port)), n)
				}
			}
			for _, p := range svc.Ports {
				add(netip.AddrPortFrom(netip.Addr{}, p.NodePort), n)
			}
		}
	}
	return out
}

// withoutGap applies a change part by part, and checks that after each of them packets go
// where they went before or will go at the end: a Service that nobody touches stays as it
// is, and one that is touched never lets a packet slip through.
func withoutGap(t *testing.T, fake *iptablestest.Fake, change ruleset.Change, packets []iptablestest.Packet) {
	t.Helper()
	before := make([]map[string]bool, len(packets))
	for i, p := range packets {
		before[i] = ends(fake.Trace(p))
	}
	if err := fake.CreateIPSets(t.Context(), change.Create); err != nil {
		t.Fatal(err)
	}
	between := make([]map[string]bool, len(packets))
	for i := range packets {
		between[i] = map[string]bool{}
	}
	for _, part := range change.Parts() {
		if err := fake.Restore(t.Context(), part.Text()); err != nil {
			t.Fatalf("a part of the difference is refused: %v\n%s", err, change.Text())
		}
		for i, p := range packets {
			maps.Copy(between[i], ends(fake.Trace(p)))
		}
	}
	for i, p := range packets {
		after := ends(fake.Trace(p))
		for end := range between[i] {
			// What comes or goes as a whole may be refused for a moment: better
			// than that it slips through.
			untouched := []string{"forward " + p.Dst.String(), "deliver " + p.Dst.String()}
			comesOrGoes := slices.ContainsFunc(untouched, func(u string) bool { return before[i][u] || after[u] })
			if !before[i][end] && !after[end] && (!comesOrGoes || end != "refused") {
				t.Fatalf("a packet %v meets %q between %v and %v:\n%s", p, end, before[i], after, change.Text())
			}
		}
	}
	if err := fake.DestroyIPSets(t.Context(), change.Destroy); err != nil {
		t.Fatal(err)
	}
}

func ends(all iptablestest.Outcomes) map[string]bool {
	out := map[string]bool{}
	for _, o := range all {
		end := "refused" // of what rejects and what drops, the first one counts while both are there
		if o.Verdict == iptablestest.Forward || o.Verdict == iptablestest.Deliver {
			end = string(o.Verdict) + " " + o.Dst.String()
		}
		out[end] = true
	}
	return out
}

// everyChainSaysWhose checks that one can follow each chain of a Service to it: its
// first rule names the Service.
func everyChainSaysWhose(t *testing.T, set *ruleset.Set) {
	t.Helper()
	for c := range set.All() {
		kind, _, _ := strings.Cut(strings.TrimPrefix(c.Name, ruleset.Prefix), "-")
		if slices.Contains([]string{"SVC", "SVL", "EXT", "FW", "GRP"}, kind) && len(c.Name) == ruleset.MaxNameLen && !strings.Contains(c.Name, ".") &&
			!strings.Contains(string(c.Rules[0]), `--comment "default/s`) {
			t.Fatalf("nobody knows whose %s is:\n%s", c.Name, c.Rules)
		}
	}
}

// TestBadServices checks that what is wrong with a Service is named, and that
// the others, and the rest of it, go on.
func TestBadServices(t *testing.T) {
	good := service("good", "10.96.0.1", "10.0.2.1")
	tests := []struct {
		name    string
		svc     *model.Service
		problem string
	}{
		{"protocol", with(service("bad", "10.96.0.2"), func(s *model.Service) { s.Ports[0].Protocol = "QUIC" }), "spec.ports[0].protocol"},
		{"port 0", with(service("bad", "10.96.0.2"), func(s *model.Service) { s.Ports[0].Port = 0 }), "spec.ports[0].port"},
		{"a rule in its name", with(service("bad", "10.96.0.2"), func(s *model.Service) {
			s.Name.Name = "x\"\n-A FORWARD -j DROP\n"
		}), "metadata.name"},
		{"a rule in its port's name", with(service("bad", "10.96.0.2"), func(s *model.Service) { s.Ports[0].Name = "x\nCOMMIT" }), "spec.ports[0].name"},
		{"address", with(service("bad", "10.96.0.2"), func(s *model.Service) { s.ClusterIPs[0] = netip.Addr{} }), "spec.clusterIPs[0]"},
		{"the address and port of another", service("worse", "10.96.0.1", "10.0.2.9"), "spec.clusterIPs: port default/worse:http: default/good:http"},
		{"endpoint port", with(service("bad", "10.96.0.2", "10.0.2.2"), func(s *model.Service) { s.Groups[0].Ports[0].Port = 0 }), "spec.ports[0]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := serviceMap(good, tt.svc)
			res := render.Render(ruleset.IPv4, config(), node(), &m)
			problems := res.Problems[tt.svc.Name]
			if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), tt.problem) {
				t.Errorf("problems %v, want one of %s", problems, tt.problem)
			}
			if len(res.Problems) != 1 {
				t.Errorf("problems of others: %v", res.Problems)
			}
			fake := load(t, ruleset.IPv4, config(), good, tt.svc)
			if got := fake.Trace(hop{pod, "10.0.1.9", "tcp", "10.96.0.1:80"}.packet()).String(); got != "1.00 forward 10.0.2.1:8080\n" {
				t.Errorf("the good one: %s", got)
			}
		})
	}
}

// TestWithoutMatches checks what is left on a kernel that lacks something.
func TestWithoutMatches(t *testing.T) {
	cfg := config()
	cfg.LocalListeners = []netip.AddrPort{addrPort("10.96.0.1:80")}
	cfg.Kernel = render.Kernel{}
	fake := load(t, ruleset.IPv4, cfg, service("good", "10.96.0.1", "10.0.2.1", "10.0.2.2"))
	for _, lacks := range []string{"comment", "statistic", "random-fully", "socket", "CT", "INVALID"} {
		if slices.Contains(strings.Fields(fake.Dump()), lacks) || strings.Contains(fake.Dump(), "-"+lacks) {
			t.Errorf("rules use %s:\n%s", lacks, fake.Dump())
		}
	}
	if got := fake.Trace(hop{pod, "10.0.1.9", "tcp", "10.96.0.1:80"}.packet()).String(); got != "1.00 forward 10.0.2.1:8080\n" {
		t.Errorf("got %s", got)
	}
}

// TestHairpinList checks that only pods of this node are in the list that every
// translated connection walks.
func TestHairpinList(t *testing.T) {
	svc := service("web", "10.96.0.10", "10.0.1.1", "10.0.2.2", "192.168.1.10", "10.0.1.3", "10.0.2.3")
	for i, name := range []string{"here", "there", "here", "", ""} {
		svc.Groups[0].Endpoints[i].Node = name
	}
	m := serviceMap(svc)
	set := render.Render(ruleset.IPv4, config(), node(), &m).Set
	got := set.Get(ruleset.Key{Table: ruleset.NAT, Name: "SIGNPOST-HAIRPIN"}).Rules
	want := []ruleset.Rule{
		"-s 10.0.1.1/32 -d 10.0.1.1/32 -j SIGNPOST-MASQUERADE",
		"-s 10.0.1.3/32 -d 10.0.1.3/32 -j SIGNPOST-MASQUERADE", // says no node, but is in the node's range
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
