package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// entry is what a test looks at of a file in a tar.
type entry struct {
	Name string
	Mode int64
	Text string
}

// read reads a tar, and fails if anything in it would differ the next time.
func read(t *testing.T, text []byte) []entry {
	t.Helper()
	var out []entry
	for r := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s has a time or an owner: %v %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, entry{h.Name, h.Mode, string(content)})
	}
}

func sha(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func file(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func image(t *testing.T, img Image) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "sub", "image.tar")
	if err := Write(out, img); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestLayout(t *testing.T) {
	base := file(t, "base.tar", "the bytes of a root file system", 0o644)
	img := Image{
		Ref: "example.test/app:dev", Entrypoint: []string{"/usr/local/bin/app"}, Cmd: []string{"-v"}, Base: base,
		Files: map[string]string{"/usr/local/bin/app": file(t, "app", "program", 0o700), "/etc/app.conf": file(t, "conf", "text", 0o600)},
	}
	got := read(t, image(t, img))
	if len(got) != 4 {
		t.Fatalf("%d files in the archive, want 4: the configuration, the manifest, two layers", len(got))
	}
	config, manifest, below, above := got[0], got[1], got[2], got[3]
	if config.Name != sha([]byte(config.Text))+".json" {
		t.Errorf("the configuration's name %s is not its digest", config.Name)
	}
	var index []indexEntry
	if err := json.Unmarshal([]byte(manifest.Text), &index); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]indexEntry{{config.Name, []string{img.Ref}, []string{below.Name, above.Name}}}, index); diff != "" {
		t.Errorf("manifest.json (-want +got):\n%s", diff)
	}
	var c imageConfig
	if err := json.Unmarshal([]byte(config.Text), &c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"sha256:" + sha([]byte(below.Text)), "sha256:" + sha([]byte(above.Text))}, c.RootFS.DiffIDs); diff != "" {
		t.Errorf("diff_ids (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]string{img.Entrypoint, img.Cmd}, [][]string{c.Config.Entrypoint, c.Config.Cmd}); diff != "" {
		t.Errorf("entry point and arguments (-want +got):\n%s", diff)
	}
	if below.Text != "the bytes of a root file system" {
		t.Errorf("the lower layer is %q, want the base as it is", below.Text)
	}
	want := []entry{{"etc/app.conf", 0o644, "text"}, {"usr/local/bin/app", 0o755, "program"}}
	if diff := cmp.Diff(want, read(t, []byte(above.Text))); diff != "" {
		t.Errorf("upper layer (-want +got):\n%s", diff)
	}
}

// TestWithoutBase holds that an image of nothing but a program has the folders
// that a container runtime and the program mount or write to.
func TestWithoutBase(t *testing.T) {
	got := read(t, image(t, Image{Ref: "x:1", Files: map[string]string{"/bin/app": file(t, "app", "program", 0o755)}}))
	want := []entry{
		{"bin/", 0o755, ""}, {"bin/app", 0o755, "program"}, {"etc/", 0o755, ""}, {"run/", 0o755, ""}, {"tmp/", 0o1777, ""}, {"var/", 0o755, ""},
	}
	if diff := cmp.Diff(want, read(t, []byte(got[2].Text))); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
}

func TestSameContentSameBytes(t *testing.T) {
	make := func() []byte {
		files := map[string]string{}
		for _, name := range []string{"/b", "/a/1", "/a/2", "/c"} {
			files[name] = file(t, "x", name, 0o644)
		}
		return image(t, Image{Ref: "x:1", Files: files})
	}
	if first, second := make(), make(); !bytes.Equal(first, second) {
		t.Error("two images of the same content differ")
	}
}

// TestFailureLeavesTheOld holds that a failed build does not destroy an image.
func TestFailureLeavesTheOld(t *testing.T) {
	out := file(t, "image.tar", "old", 0o644)
	if err := Write(out, Image{Ref: "x:1", Files: map[string]string{"/a": filepath.Join(t.TempDir(), "missing")}}); err == nil {
		t.Fatal("Write() = nil, want an error that names the missing file")
	}
	text, err := os.ReadFile(out)
	if err != nil || string(text) != "old" {
		t.Errorf("the old image is %q, %v", text, err)
	}
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files are left beside the image, %v", len(entries)-1, err)
	}
}
