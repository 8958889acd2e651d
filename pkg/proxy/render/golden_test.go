package render_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/signpost-dev/signpost/pkg/model"
	"github.com/signpost-dev/signpost/pkg/proxy/render"
	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// go test ./pkg/proxy/render -update rewrites testdata.
var update = flag.Bool("update", false, "write the golden files")

type golden struct {
	name     string
	family   ruleset.Family
	cfg      func(*render.Config)
	services []*model.Service
}

func goldens() []golden {
	web := withNodePort(service("web", "10.96.0.10,fd00::a", "10.0.1.1", "10.0.2.2", "10.0.2.3", "fd02:0:0:1::1", "fd02:0:0:2::2"), 30080)
	return []golden{
		{"nothing", ruleset.IPv4, nil, nil},
		{"one-service", ruleset.IPv4, nil, []*model.Service{web, service("empty", "10.96.1.11")}},
		{"one-service-ipv6", ruleset.IPv6, nil, []*model.Service{web, service("empty", "fd00::1:b")}},
		{"everything-set", ruleset.IPv4, func(c *render.Config) {
			c.ClusterCIDRs = append(c.ClusterCIDRs, prefix("10.9.0.0/16"))
			c.NodePortAddresses = []netip.Prefix{prefix("192.168.0.0/16"), prefix("172.16.0.0/12")}
			c.LocalListeners = []netip.AddrPort{addrPort("10.96.0.10:80"), addrPort("169.254.20.10:53")}
			c.ServiceCIDRs = []netip.Prefix{prefix("10.96.0.0/16")}
			c.LocalhostNodePorts = false
			c.MasqueradeBit = 3
		}, []*model.Service{web, withNodePort(with(service("sctp", "10.96.0.12"), func(s *model.Service) { s.Ports[0].Protocol = model.SCTP }), 30099)}},
		{"bare-kernel", ruleset.IPv4, func(c *render.Config) { c.Kernel = render.Kernel{} }, []*model.Service{web}},
	}
}

// TestGolden shows what the rules look like. That they do what they should is
// for the tests of packets to say; this one makes a change of them visible. The tests with
// the tag netns feed the same files to iptables-restore.
func TestGolden(t *testing.T) {
	for _, g := range goldens() {
		t.Run(g.name, func(t *testing.T) {
			cfg := config()
			if g.cfg != nil {
				g.cfg(&cfg)
			}
			m := serviceMap(g.services...)
			out := render.Render(g.family, cfg, node(), &m)
			var b strings.Builder
			b.WriteString(ruleset.Replace(out.Set, nil).Text())
			for _, h := range out.Hooks {
				fmt.Fprintf(&b, "# -t %s -I %s %s\n", h.Chain.Table, h.Chain.Name, h.Rule())
			}
			file := filepath.Join("testdata", g.name+".rules")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("%s (-want +got), -update to accept:\n%s", file, diff)
			}
		})
	}
}
