package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPick(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		stanzas    bool
		want       string
	}{
		{"stanzas", `Types: deb deb-src
# a snapshot
URIs: http://one.test/debian http://two.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb-src
URIs: http://one.test/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
`, true, `deb [signed-by=/usr/share/keyrings/debian.gpg] http://one.test/debian bookworm main contrib
deb [signed-by=/usr/share/keyrings/debian.gpg] http://one.test/debian bookworm-updates main contrib
deb [signed-by=/usr/share/keyrings/debian.gpg] http://two.test/debian bookworm main contrib
deb [signed-by=/usr/share/keyrings/debian.gpg] http://two.test/debian bookworm-updates main contrib
`},
		{"lines", `# comment
deb http://one.test/debian bookworm main
deb-src http://one.test/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://one.test/security bookworm-security main
`, false, `deb http://one.test/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://one.test/security bookworm-security main
`},
		{"other vendors and releases", `deb https://vendor.test tools-bookworm main
deb https://vendor.test bookworm stable
deb http://one.test/debian bookworm-backports main
deb http://one.test/debian trixie main
`, false, ""},
		{"other vendor's stanza", "Types: deb\nURIs: https://vendor.test\nSuites: nodistro\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n x\n", true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, pick(tt.text, tt.stanzas, "bookworm")); diff != "" {
				t.Errorf("pick (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCodename(t *testing.T) {
	for text, want := range map[string]string{
		"NAME=x\nVERSION_CODENAME=bookworm\n":  "bookworm",
		"VERSION_CODENAME=\"noble\"\n":         "noble",
		"NAME=x\nVERSION=\"12 (VERSION_C)\"\n": "",
	} {
		if got := codename(text); got != want {
			t.Errorf("codename(%q) = %q, want %q", text, got, want)
		}
	}
}

// TestRootfsKey holds that the cache is not asked for the wrong thing.
func TestRootfsKey(t *testing.T) {
	base := release{codename: "bookworm", arch: "amd64"}
	key := rootfsKey(base, []string{"curl"})
	for name, other := range map[string]string{
		"release":      rootfsKey(release{codename: "trixie", arch: "amd64"}, []string{"curl"}),
		"architecture": rootfsKey(release{codename: "bookworm", arch: "arm64"}, []string{"curl"}),
		"packages":     rootfsKey(base, []string{"curl", "kmod"}),
	} {
		if other == key {
			t.Errorf("another %s has the same key %s", name, key)
		}
	}
	base.sources = "deb http://another-mirror.test bookworm main"
	if got := rootfsKey(base, []string{"curl"}); got != key {
		t.Errorf("the mirror is in the key: %s, want %s", got, key)
	}
}
