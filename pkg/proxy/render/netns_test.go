//go:build netns

package render_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
	"github.com/signpost-dev/signpost/test/netlab"
)

// TestProgramsTakeGoldens feeds the golden files to iptables-restore: first as a
// test, and then really, as only the kernel can say no to some things.
func TestProgramsTakeGoldens(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		for _, g := range goldens() {
			t.Run(backend+" "+g.name, func(t *testing.T) {
				text, err := os.ReadFile(filepath.Join("testdata", g.name+".rules"))
				if err != nil {
					t.Fatal(err)
				}
				lab, err := netlab.New()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = lab.Close() }()
				program := "iptables-" + backend + "-restore"
				if g.family == ruleset.IPv6 {
					program = "ip6tables-" + backend + "-restore"
				}
				for _, args := range [][]string{{"--noflush", "--test"}, {"--noflush"}} {
					if _, err := lab.Node.Command(t.Context(), string(text), program, args...); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}
