package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
)

// execute runs the program with args, and returns its exit code and what it says
// on standard output and in its error.
func execute(t *testing.T, args ...string) (code int, out, failure string) {
	t.Helper()
	var stdout bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&stdout)
	err := root.ExecuteContext(t.Context())
	if err != nil {
		failure = err.Error()
	}
	return exitCode(err), stdout.String(), failure
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodesAndWhatIsSaid(t *testing.T) {
	t.Setenv("SIGNPOST_API_SERVER", "")
	t.Setenv("NODE_NAME", "node1")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	defaults, err := v1alpha1.Default().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := write(t, string(defaults))
	bad := write(t, "apiVersion: config.signpost.dev/v1alpha1\nkind: SignpostConfiguration\ndns: {pods: all, x: 1}\n")
	for _, tt := range []struct {
		name       string
		args       []string
		code       int
		out, error string
	}{
		{"alone", nil, 0, "Available Commands", ""},
		{"no such command", []string{"frob"}, 2, "", `unknown command "frob"`},
		{"no such flag", []string{"run", "--frob"}, 2, "", "--frob"},
		{"an argument too many", []string{"run", "frob"}, 2, "", `"frob"`},
		{"version", []string{"version"}, 0, "signpost ", ""},
		{"defaults", []string{"config", "defaults"}, 0, string(defaults), ""},
		{"a good file", []string{"config", "check", good}, 0, "no faults", ""},
		{"every fault of a bad file", []string{"config", "check", bad}, 2, "", `unknown field "dns.x"`},
		{"and the other", []string{"config", "check", bad}, 2, "", "dns.pods"},
		{"check what?", []string{"config", "check"}, 2, "", "1 arg"},
		{"no such file", []string{"run", "--config", "/does/not/exist"}, 2, "", "/does/not/exist"},
		{"a bad file", []string{"run", "--config", bad}, 2, "", "dns.pods"},
		{"log level", []string{"run", "--log-level", "loud"}, 2, "", `--log-level: "loud"`},
		{"log format", []string{"run", "--log-format", "xml"}, 2, "", `--log-format: "xml"`},
		{"no way to a server", []string{"run"}, 1, "", "clientConnection.kubeconfig"},
		{"kubeconfig that is not there", []string{"rules", "--kubeconfig", "/does/not/exist"}, 1, "", "/does/not/exist"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, failure := execute(t, tt.args...)
			if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(failure, tt.error) {
				t.Errorf("code %d, output %q, error %q; want code %d, output with %q, error with %q",
					code, out, failure, tt.code, tt.out, tt.error)
			}
			if tt.error == "" && failure != "" {
				t.Errorf("error %q", failure)
			}
		})
	}
}

func TestEnvironmentFillsIn(t *testing.T) {
	t.Setenv("NODE_NAME", "node7")
	t.Setenv("SIGNPOST_API_SERVER", "https://192.0.2.1:6443")
	s := settings{logFormat: "text", logLevel: "info"}
	cfg, _, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.NodeName != "node7" || cfg.ClientConnection.Server != "https://192.0.2.1:6443" {
		t.Errorf("node %q, server %q", cfg.NodeName, cfg.ClientConnection.Server)
	}
	s.nodeName = "flag"
	if cfg, _, err = s.load(); err != nil || cfg.NodeName != "flag" {
		t.Errorf("a flag does not win over the environment: %q, %v", cfg.NodeName, err)
	}
	t.Setenv("SIGNPOST_API_SERVER", "192.0.2.1")
	if _, _, err = s.load(); err == nil || !strings.Contains(err.Error(), "SIGNPOST_API_SERVER") {
		t.Errorf("error %v, want one that names SIGNPOST_API_SERVER", err)
	}
}
