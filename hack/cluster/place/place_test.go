package place

import (
	"os"
	"path/filepath"
	"testing"
)

func TestVersion(t *testing.T) {
	for _, tt := range []struct{ name, mod, want string }{
		{"one line", "module x\n\nrequire k8s.io/kubernetes v1.36.3\n", "v1.36.3"},
		{"block", "require (\n\tk8s.io/kubernetes/other v0.1.0\n\tk8s.io/kubernetes v1.37.0-rc.1 // indirect\n)\n", "v1.37.0-rc.1"},
		{"replaced only", "replace k8s.io/kubernetes => ../k\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Version([]byte(tt.mod), "k8s.io/kubernetes")
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("Version() = %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestPrograms(t *testing.T) {
	root := t.TempDir()
	nested := filepath.Join(root, "hack", "cluster", "programs", "kubernetes")
	if err := os.MkdirAll(nested, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := Programs(root, "/cache", "kubernetes", "k8s.io/kubernetes"); err == nil {
		t.Errorf("Programs() without a go.mod = %q, want an error", got)
	}
	if err := os.WriteFile(filepath.Join(nested, "go.mod"), []byte("require k8s.io/kubernetes v1.37.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Programs(root, "/cache", "kubernetes", "k8s.io/kubernetes")
	if want := "/cache/programs/kubernetes-v1.37.0"; err != nil || got != want {
		t.Errorf("Programs() = %q, %v, want %q", got, err, want)
	}
}

func TestFolders(t *testing.T) {
	t.Setenv("HOME", "/home/ada")
	t.Setenv("XDG_CACHE_HOME", "")
	for _, tt := range []struct {
		variable, value string
		get             func() (string, error)
		want            string
	}{
		{"SIGNPOST_CACHE", "", Cache, "/home/ada/.cache/signpost"},
		{"SIGNPOST_CACHE", "/elsewhere", Cache, "/elsewhere"},
		{"SIGNPOST_CLUSTER_DIR", "", Cluster, "/home/ada/.cache/signpost/cluster"},
		{"SIGNPOST_CLUSTER_DIR", "/other/", Cluster, "/other"},
	} {
		t.Setenv(tt.variable, tt.value)
		if got, err := tt.get(); err != nil || got != tt.want {
			t.Errorf("with %s=%q: %q, %v, want %q", tt.variable, tt.value, got, err, tt.want)
		}
	}
}

func TestCheckout(t *testing.T) {
	root := t.TempDir()
	nested := filepath.Join(root, "hack", "nested")
	if err := os.MkdirAll(nested, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := checkout(nested); err == nil {
		t.Fatalf("checkout(%s) = %s, want an error: there is no go.mod", nested, got)
	}
	write := func(dir, text string) {
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(root, module)
	write(nested, "module github.com/signpost-dev/signpost/hack/nested\n")
	if got, err := checkout(nested); err != nil || got != root {
		t.Errorf("checkout(%s) = %q, %v, want %q", nested, got, err, root)
	}
}
