package scenario

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"golang.org/x/tools/txtar"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/dns/records"
	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/iptables/iptablestest"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

var update = flag.Bool("update", false, "write what comes out into the files")

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runFile(t, file) })
	}
}

func runFile(t *testing.T, path string) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) == 0 || archive.Files[0].Name != "cluster.yaml" {
		t.Fatal("the first section is not cluster.yaml")
	}
	sections := archive.Files[1:]
	cfg := v1alpha1.Default().Proxy
	cfg.ClusterCIDRs = []string{"10.244.0.0/16", "fd00:244::/32"}
	if len(sections) > 0 && sections[0].Name == "config.yaml" {
		cfg = readConfig(t, sections[0].Data)
		sections = sections[1:]
	}
	s := newScene(t, readCluster(t, archive.Files[0].Data).snapshot(t), &cfg)
	for i := range sections {
		section := &sections[i]
		got := s.answer(t, section.Name, string(section.Data))
		if *update {
			section.Data = []byte(got)
		} else if diff := cmp.Diff(string(section.Data), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s\nif that is right, write it with -update", section.Name, diff)
		}
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// scene is a cluster with everything that is made of it.
type scene struct {
	snapshot *model.Snapshot
	rules    map[ruleset.Family]render.Result
	fakes    map[ruleset.Family]*iptablestest.Fake
	names    *records.View
}

// readConfig reads the proxy's part of a configuration file.
func readConfig(t *testing.T, data []byte) v1alpha1.Proxy {
	t.Helper()
	cfg, err := v1alpha1.Parse(slices.Concat([]byte("apiVersion: config.signpost.dev/v1alpha1\nkind: SignpostConfiguration\n"), data))
	if err != nil {
		t.Fatalf("config.yaml: %v", err)
	}
	return cfg.Proxy
}

func renderConfig(cfg *v1alpha1.Proxy, snapshot *model.Snapshot) render.Config {
	out := render.Config{
		DetectLocal:        render.Mode(cfg.DetectLocal.Mode),
		DetectInterface:    cfg.DetectLocal.Interface,
		ServiceCIDRs:       snapshot.ServiceCIDRs,
		MasqueradeAll:      cfg.MasqueradeAll,
		MasqueradeBit:      uint8(cfg.MasqueradeBit),
		LocalhostNodePorts: cfg.LocalhostNodePorts,
		Kernel:             render.FullKernel(),
	}
	for _, c := range cfg.ClusterCIDRs {
		out.ClusterCIDRs = append(out.ClusterCIDRs, netip.MustParsePrefix(c))
	}
	for _, a := range cfg.NodePortAddresses {
		if a == v1alpha1.NodePortPrimary {
			out.NodePortPrimary = true
			continue
		}
		out.NodePortAddresses = append(out.NodePortAddresses, netip.MustParsePrefix(a))
	}
	return out
}

func newScene(t *testing.T, snapshot *model.Snapshot, proxy *v1alpha1.Proxy) *scene {
	t.Helper()
	s := &scene{snapshot: snapshot, rules: map[ruleset.Family]render.Result{}, fakes: map[ruleset.Family]*iptablestest.Fake{}}
	cfg := renderConfig(proxy, snapshot)
	for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		result := render.Render(family, cfg, snapshot.Node, &snapshot.Services)
		fake := iptablestest.New(family)
		for _, a := range snapshot.Node.Addrs {
			if family.Has(a) {
				fake.Local = append(fake.Local, a)
			}
		}
		if err := fake.Load(result.Set, result.Hooks); err != nil {
			t.Fatalf("%s rules are refused: %v", family, err)
		}
		s.rules[family], s.fakes[family] = result, fake
	}
	view, err := records.New(records.Options{
		Domain: "cluster.local", TTL: 5, Pods: records.PodsInsecure,
		Server: model.Name{Namespace: "kube-system", Name: "kube-dns"},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.names = view.Next(snapshot, 1)
	return s
}

// answer returns the section as it ought to be.
func (s *scene) answer(t *testing.T, section, text string) string {
	t.Helper()
	switch section {
	case "packets":
		return eachQuestion(text, func(q string) string { return s.trace(t, q) })
	case "names":
		return eachQuestion(text, func(q string) string { return s.resolve(t, q) })
	case "rules.ipv4":
		return ruleset.Replace(s.rules[ruleset.IPv4].Set, nil).Text()
	case "rules.ipv6":
		return ruleset.Replace(s.rules[ruleset.IPv6].Set, nil).Text()
	case "problems":
		return s.problems()
	}
	t.Fatalf("there is no section %q", section)
	return ""
}

// eachQuestion keeps the questions and comments of a section, and puts below each
// question what ask says.
func eachQuestion(text string, ask func(string) string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "\t") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for answer := range strings.Lines(ask(line)) {
			out.WriteString("\t" + strings.TrimRight(answer, "\n") + "\n")
		}
	}
	return out.String()
}

func (s *scene) trace(t *testing.T, question string) string {
	t.Helper()
	from := map[string]iptablestest.Origin{"pod": iptablestest.Pod, "outside": iptablestest.Outside, "node": iptablestest.Node}
	fields := strings.Fields(question)
	if len(fields) < 4 {
		t.Fatalf("packets: %q is not FROM PROTOCOL SOURCE DESTINATION", question)
	}
	origin, ok := from[fields[0]]
	if !ok {
		t.Fatalf("packets: %q does not start with pod, outside or node", question)
	}
	dst := netip.MustParseAddrPort(fields[3])
	src := netip.AddrPortFrom(netip.MustParseAddr(fields[2]), 40000)
	family := ruleset.IPv4
	if dst.Addr().Is6() {
		family = ruleset.IPv6
	}
	packet, fake := iptablestest.Packet{From: origin, Proto: fields[1], Src: src, Dst: dst}, s.fakes[family]
	outcomes := fake.Trace
	for _, word := range fields[4:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "in":
			packet.In = value
		case "state":
			packet.State = iptablestest.State(value)
		case "twice":
			outcomes = func(p iptablestest.Packet) iptablestest.Outcomes {
				fake.Remember(p, fake.Trace(p)[0])
				return fake.Trace(p)
			}
		default:
			t.Fatalf("packets: %q is none of in=, state= and twice", word)
		}
	}
	return outcomes(packet).String()
}

func (s *scene) resolve(t *testing.T, question string) string {
	t.Helper()
	typeName, name, _ := strings.Cut(question, " ")
	rrType, ok := dns.StringToType[typeName]
	if !ok {
		t.Fatalf("names: %q is not TYPE NAME", question)
	}
	if rrType == dns.TypePTR && !strings.HasSuffix(name, "arpa") {
		reverse, err := dns.ReverseAddr(name)
		if err != nil {
			t.Fatalf("names: %v", err)
		}
		name = reverse
	}
	a := s.names.Answer(records.Question{Name: dns.Fqdn(name), Type: rrType}, 0)
	if a.Forward {
		return "forward"
	}
	lines := []string{dns.RcodeToString[a.Rcode]}
	for _, part := range [][]dns.RR{a.Answer, a.Extra} {
		var texts []string
		for _, rr := range part {
			texts = append(texts, strings.ReplaceAll(rr.String(), "\t", " "))
		}
		slices.Sort(texts)
		lines = append(lines, texts...)
	}
	if a.Chase != "" {
		lines = append(lines, "and what "+a.Chase+" has")
	}
	return strings.Join(lines, "\n")
}

func (s *scene) problems() string {
	var lines []string
	for name, svc := range s.snapshot.Services.All() {
		all := slices.Clone(svc.Problems)
		for _, family := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
			for _, p := range s.rules[family].Problems[name] {
				if !slices.Contains(all, p) {
					all = append(all, p)
				}
			}
		}
		for _, p := range all {
			lines = append(lines, fmt.Sprintf("%s: %s\n", name, p))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
