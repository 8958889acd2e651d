// Package place knows where the tools under hack keep things: the checkout they
// work for, the cache that all checkouts share, and the running cluster's folder.
package place

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const module = "module github.com/signpost-dev/signpost\n"

// Checkout returns the root of the checkout that the working directory is in.
func Checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	return checkout(dir)
}

func checkout(dir string) (string, error) {
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), module) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("this folder is in no checkout of Signpost: run the command from inside one")
		}
		dir = filepath.Dir(dir)
	}
}

// Cache returns the folder of what is built once and shared by all checkouts:
// $SIGNPOST_CACHE, or $HOME/.cache/signpost.
func Cache() (string, error) { return folder("SIGNPOST_CACHE", "signpost") }

// Cluster returns the folder of the running cluster: $SIGNPOST_CLUSTER_DIR, or
// $HOME/.cache/signpost/cluster.
func Cluster() (string, error) { return folder("SIGNPOST_CLUSTER_DIR", "signpost/cluster") }

func folder(variable, below string) (string, error) {
	if dir := os.Getenv(variable); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("%w: set %s to a folder", err, variable)
	}
	return filepath.Join(cache, below), nil
}

// Images returns the folder of a checkout that its container images are in.
func Images(checkout string) string { return filepath.Join(checkout, "bin", "images") }

// Programs returns the folder of the cache for what is built from source, a nested
// module in hack/cluster/programs of the checkout: it has the version of module in
// its name, which the nested go.mod requires.
func Programs(checkout, cache, source, module string) (string, error) {
	goMod, err := os.ReadFile(filepath.Join(checkout, "hack", "cluster", "programs", source, "go.mod"))
	if err != nil {
		return "", err
	}
	version, err := Version(goMod, module)
	return filepath.Join(cache, "programs", source+"-"+version), err
}

// Version returns the version that a go.mod requires of a module.
func Version(goMod []byte, module string) (string, error) {
	m := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(goMod)
	if m == nil {
		return "", fmt.Errorf("go.mod does not require %s", module)
	}
	return string(m[1]), nil
}
