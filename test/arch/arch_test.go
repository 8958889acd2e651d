package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/signpost-dev/signpost/"

// floor of a package: it may import packages of the project of a lower floor.
type floor int

const (
	words floor = iota
	pure
	shell
	daemon
	command
)

// rooms is the whole house. A new package has to be entered here on purpose.
var rooms = map[string]floor{
	"pkg/model":                        words,
	"pkg/proxy/ruleset":                words,
	"pkg/config/v1alpha1":              words,
	"pkg/api/v1alpha1":                 words,
	"pkg/watchcache/translate":         pure,
	"pkg/proxy/render":                 pure,
	"pkg/proxy/conntrack/stale":        pure,
	"pkg/dns/records":                  pure,
	"pkg/dns/packed":                   pure,
	"pkg/dns/outside":                  pure,
	"pkg/dns/search":                   pure,
	"pkg/controller/endpoints/plan":    pure,
	"pkg/controller/readiness/verdict": pure,
	"pkg/controller/nodes/evidence":    pure,
	"pkg/controller/loadbalancer/pool": pure,
	"pkg/controller/backends/check":    pure,
	"pkg/controller/backends/plan":     pure,
	"pkg/controller/backends/verdict":  pure,
	"pkg/rendezvous":                   pure,
	"pkg/announce/claim":               pure,
	"pkg/announce/frame":               pure,
	"pkg/announce/eligible":            pure,
	"pkg/watchcache":                   shell,
	"pkg/proxy":                        shell,
	"pkg/proxy/conntrack":              shell,
	"pkg/proxy/healthcheck":            shell,
	"pkg/proxy/iptables":               shell,
	"pkg/proxy/iptables/iptablestest":  shell,
	"pkg/dns":                          shell,
	"pkg/dns/forward":                  shell,
	"pkg/controller/backends":          shell,
	"pkg/controller/backends/prober":   shell,
	"pkg/controller/endpoints":         shell,
	"pkg/controller/ledger":            shell,
	"pkg/controller/loadbalancer":      shell,
	"pkg/controller/listen":            shell,
	"pkg/controller/mirror":            shell,
	"pkg/controller/nodes":             shell,
	"pkg/controller/readiness":         shell,
	"pkg/controller/term":              shell,
	"pkg/controller/work":              shell,
	"pkg/announce":                     shell,
	"pkg/peers":                        shell,
	"pkg/health":                       shell,
	"pkg/daemon":                       daemon,
	"cmd/signpost":                     command,
}

// neighbours may import a room of their own floor, for the reason given.
var neighbours = map[[2]string]string{
	{"pkg/controller/endpoints/plan", "pkg/controller/readiness/verdict"}: "a plan is made of verdicts",
	{"pkg/announce/claim", "pkg/rendezvous"}:                              "who should have an address",
	{"pkg/controller/backends/plan", "pkg/controller/backends/check"}:     "what is checked of a slice",
	{"pkg/controller/backends/plan", "pkg/controller/endpoints/plan"}:     "writes as the ledger makes them",
	{"pkg/controller/backends", "pkg/controller/ledger"}:                  "what is published, and by whom",
	{"pkg/controller/backends", "pkg/controller/listen"}:                  "handlers that end with the term",
	{"pkg/controller/backends", "pkg/controller/work"}:                    "workers that end with the term",
	{"pkg/controller/backends", "pkg/controller/term"}:                    "metrics that outlive the term",
	{"pkg/controller/backends/prober", "pkg/controller/listen"}:           "how to hear of what is declared",
	{"pkg/controller/endpoints", "pkg/controller/ledger"}:                 "what is published, and by whom",
	{"pkg/controller/endpoints", "pkg/controller/listen"}:                 "handlers that end with the term",
	{"pkg/controller/endpoints", "pkg/controller/work"}:                   "workers that end with the term",
	{"pkg/controller/endpoints", "pkg/controller/term"}:                   "metrics that outlive the term",
	{"pkg/controller/mirror", "pkg/controller/ledger"}:                    "what is published, and by whom",
	{"pkg/controller/mirror", "pkg/controller/listen"}:                    "handlers that end with the term",
	{"pkg/controller/mirror", "pkg/controller/work"}:                      "workers that end with the term",
	{"pkg/controller/mirror", "pkg/controller/term"}:                      "metrics that outlive the term",
	{"pkg/controller/loadbalancer", "pkg/controller/listen"}:              "handlers that end with the term",
	{"pkg/controller/loadbalancer", "pkg/controller/work"}:                "workers that end with the term",
	{"pkg/controller/loadbalancer", "pkg/controller/term"}:                "metrics that outlive the term",
	{"pkg/controller/readiness", "pkg/controller/work"}:                   "workers that end with the term",
	{"pkg/controller/readiness", "pkg/controller/term"}:                   "metrics that outlive the term",
	{"pkg/controller/nodes", "pkg/controller/term"}:                       "metrics that outlive the term",
	{"pkg/dns/packed", "pkg/dns/records"}:                                 "what answers are made of, and rest on",
	{"pkg/proxy", "pkg/proxy/iptables"}:                                   "the sync loop runs the programs",
	{"pkg/proxy", "pkg/proxy/conntrack"}:                                  "the sync loop says which rules are in",
	{"pkg/dns", "pkg/dns/forward"}:                                        "the server asks upstreams for other names",
	{"pkg/proxy/iptables/iptablestest", "pkg/proxy/iptables"}:             "the fake stands in for the programs",
}

// banned says what a package must not reach, not even through others. An entry
// holds for all packages up to that floor, but for those excepted.
var banned = []struct {
	prefix string
	upTo   floor
	except []string
	why    string
}{
	{"k8s.io/client-go", pure, nil, "pure packages take objects as arguments"},
	{"sigs.k8s.io/controller-runtime", pure, nil, "pure packages take objects as arguments"},
	{"github.com/coreos/go-iptables", pure, nil, "pure packages render and do not run"},
	{"os/exec", pure, []string{"pkg/dns/records", "pkg/dns/packed", "pkg/dns/outside"}, "pure packages render and do not run"},
	{"k8s.io/api", pure, []string{"pkg/watchcache/translate", "pkg/controller/endpoints/plan", "pkg/controller/readiness/verdict", "pkg/controller/loadbalancer/pool", "pkg/controller/backends/check", "pkg/controller/backends/plan"}, "API types stop at translate and the plans"},
	{"github.com/miekg/dns", pure, []string{"pkg/dns/records", "pkg/dns/packed", "pkg/dns/outside"}, "only the DNS wing speaks DNS"},
	{"testing", command, []string{"pkg/proxy/iptables/iptablestest"}, "production code knows no tests"},
}

// wings must not know each other: daemon joins them.
var wings = []string{"pkg/controller", "pkg/proxy", "pkg/dns"}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Doc        string
	GoFiles    []string
}

func TestFloors(t *testing.T) {
	packages := list(t)
	if len(packages) < 5 {
		t.Fatalf("go list found %d packages: is this the whole house?", len(packages))
	}
	seen := map[string]bool{}
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module)
		seen[name] = true
		mine, ok := rooms[name]
		if !ok {
			t.Errorf("%s has no floor: enter it in rooms, on purpose", name)
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", name)
		}
		checkImports(t, name, mine, p.Imports)
		checkDeps(t, name, mine, p.Deps)
	}
	for name := range rooms {
		if !seen[name] {
			t.Errorf("%s has a floor but does not exist: strike it from rooms", name)
		}
	}
}

func checkImports(t *testing.T, name string, mine floor, imports []string) {
	t.Helper()
	for _, imp := range imports {
		other, ours := strings.CutPrefix(imp, module)
		if !ours {
			continue
		}
		if rooms[other] >= mine && neighbours[[2]string{name, other}] == "" {
			t.Errorf("%s imports %s, which is not on a lower floor", name, other)
		}
		if a, b := wingOf(name), wingOf(other); a != "" && b != "" && a != b {
			t.Errorf("%s imports %s of another wing: declare an interface and let pkg/daemon join them", name, other)
		}
	}
}

func checkDeps(t *testing.T, name string, mine floor, deps []string) {
	t.Helper()
	for _, ban := range banned {
		if mine > ban.upTo || slices.Contains(ban.except, name) {
			continue
		}
		for _, dep := range deps {
			if dep == ban.prefix || strings.HasPrefix(dep, ban.prefix+"/") {
				t.Errorf("%s reaches %s: %s", name, dep, ban.why)
				break
			}
		}
	}
}

func wingOf(name string) string {
	for _, w := range wings {
		if name == w || strings.HasPrefix(name, w+"/") {
			return w
		}
	}
	return ""
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps,Doc,GoFiles", "./pkg/...", "./cmd/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}
