// Package archive writes container images without a container engine: as a
// docker-archive, which `ctr images import` and `docker load` read.
//
// The same content makes the same bytes: files are sorted, have no times and
// belong to root.
package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Image is what is in an image, and how it is started.
type Image struct {
	// Ref is the name with the tag.
	Ref        string
	Entrypoint []string
	Cmd        []string
	// Base is a tar file with a root file system, or empty: a layer of its own
	// below the files, so that a runtime unpacks it once.
	Base string
	// Files by their path in the image, which is absolute, and where they are
	// now. What may be executed here, may be there.
	Files map[string]string
}

// searchPath is all that an image brings to its environment.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Write writes the image into a file, whole or not at all.
func Write(file string, img Image) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // after the rename there is no such file
	if err := errors.Join(write(temp, img), temp.Chmod(0o644), temp.Close()); err != nil {
		return fmt.Errorf("image %s: %w", img.Ref, err)
	}
	return os.Rename(temp.Name(), file)
}

// layer is a tar with a part of the file system.
type layer struct {
	digest string // sha256, in hexadecimal
	size   int64
	open   func() (io.ReadCloser, error)
}

func write(w io.Writer, img Image) error {
	layers, err := layersOf(img)
	if err != nil {
		return err
	}
	config, err := json.Marshal(configOf(img, layers))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	configName := hex.EncodeToString(sum[:]) + ".json"
	index, err := json.Marshal(indexOf(img, configName, layers))
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	if err := errors.Join(add(out, configName, config), add(out, "manifest.json", index)); err != nil {
		return err
	}
	for _, l := range layers {
		if err := l.copyTo(out); err != nil {
			return err
		}
	}
	return out.Close()
}

func layersOf(img Image) ([]layer, error) {
	var layers []layer
	if img.Base != "" {
		l, err := baseLayer(img.Base)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	if len(img.Files) == 0 {
		return layers, nil
	}
	text, err := fileLayer(img.Files, img.Base == "")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	return append(layers, layer{
		digest: hex.EncodeToString(sum[:]), size: int64(len(text)),
		open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
	}), nil
}

func baseLayer(file string) (layer, error) {
	f, err := os.Open(file)
	if err != nil {
		return layer{}, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return layer{}, err
	}
	return layer{hex.EncodeToString(sum.Sum(nil)), size, func() (io.ReadCloser, error) { return os.Open(file) }}, nil
}

// fileLayer makes the tar of the files with the folders above them and, if that
// is all there is, those that programs expect.
func fileLayer(files map[string]string, alone bool) ([]byte, error) {
	headers := map[string]*tar.Header{}
	folder := func(name string, mode int64) {
		headers[name+"/"] = &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}
	}
	if alone {
		for _, name := range []string{"etc", "run", "var"} {
			folder(name, 0o755)
		}
		folder("tmp", 0o1777)
	}
	for to, from := range files {
		name := strings.TrimPrefix(path.Clean(to), "/")
		// Below a base, a folder that is a link there must not become a folder:
		// the base has those of the paths that are in use.
		for dir := path.Dir(name); alone && dir != "."; dir = path.Dir(dir) {
			folder(dir, 0o755)
		}
		info, err := os.Stat(from)
		if err != nil {
			return nil, err
		}
		headers[name] = &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: mode(info)}
	}
	return writeFiles(headers, files)
}

func mode(info os.FileInfo) int64 {
	if info.Mode()&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

func writeFiles(headers map[string]*tar.Header, files map[string]string) ([]byte, error) {
	var names []string
	for name, h := range headers {
		h.ModTime, h.Format = time.Unix(0, 0), tar.FormatPAX
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range names {
		if err := w.WriteHeader(headers[name]); err != nil {
			return nil, err
		}
		if headers[name].Typeflag == tar.TypeDir {
			continue
		}
		from, ok := files["/"+name]
		if !ok {
			return nil, fmt.Errorf("path %s is not absolute and clean", name)
		}
		if err := copyFile(w, from); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

func copyFile(w io.Writer, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func (l layer) name() string { return l.digest + "/layer.tar" }

func (l layer) copyTo(out *tar.Writer) error {
	if err := out.WriteHeader(header(l.name(), l.size)); err != nil {
		return err
	}
	r, err := l.open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(out, r)
	return err
}

func add(out *tar.Writer, name string, text []byte) error {
	if err := out.WriteHeader(header(name, int64(len(text)))); err != nil {
		return err
	}
	_, err := out.Write(text)
	return err
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}

// imageConfig is the part of the OCI image configuration that a runtime reads.
type imageConfig struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Created      time.Time `json:"created"`
	Config       struct {
		Env        []string `json:"Env"`
		Entrypoint []string `json:"Entrypoint,omitempty"`
		Cmd        []string `json:"Cmd,omitempty"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

func configOf(img Image, layers []layer) imageConfig {
	c := imageConfig{Architecture: runtime.GOARCH, OS: "linux", Created: time.Unix(0, 0).UTC()}
	c.Config.Env, c.Config.Entrypoint, c.Config.Cmd = []string{searchPath}, img.Entrypoint, img.Cmd
	c.RootFS.Type = "layers"
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, "sha256:"+l.digest)
	}
	return c
}

// indexEntry is manifest.json's word about an image.
type indexEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func indexOf(img Image, config string, layers []layer) []indexEntry {
	e := indexEntry{Config: config, RepoTags: []string{img.Ref}}
	for _, l := range layers {
		e.Layers = append(e.Layers, l.name())
	}
	return []indexEntry{e}
}
