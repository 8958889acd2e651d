package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/signpost-dev/signpost/hack/cluster/debian"
	"github.com/signpost-dev/signpost/hack/cluster/step"
)

// options leave out what nobody reads in a container, and the package that would
// merge /usr, with all of Perl: it is merged from the beginning.
func options() []string {
	return []string{
		"--variant=minbase",
		"--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
		"--include=usr-is-merged",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
	}
}

// rootfs returns a tar with a root file system of the machine's own Debian
// release with these packages: from the cache, where the same packages are of the
// same release, or made by mmdebstrap.
func (b *builder) rootfs(ctx context.Context, packages []string) (string, error) {
	release, err := machineRelease()
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.cache, "rootfs", rootfsKey(release, packages)+".tar")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	what := fmt.Sprintf("Debian %s with %s", release.codename, strings.Join(packages, ", "))
	return file, b.printer.Do(what, func() error { return b.bootstrap(ctx, release, packages, file) })
}

// rootfsKey names the content: what decides it is in the name.
func rootfsKey(release release, packages []string) string {
	sum := sha256.Sum256([]byte(strings.Join(append(append([]string{release.arch}, packages...), options()...), "\n")))
	return "debian-" + release.codename + "-" + hex.EncodeToString(sum[:6])
}

// bootstrap makes the tar under another name, so that what has the name is whole.
func (b *builder) bootstrap(ctx context.Context, release release, packages []string, file string) error {
	if err := debian.Ensure(ctx, b.printer.Out, "mmdebstrap"); err != nil {
		return err
	}
	temp := file + ".new"
	defer os.Remove(temp) // after the rename there is no such file
	args := append(options(), "--format=tar", "--include="+strings.Join(packages, ","), release.codename, temp, "-")
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	// All times in the tar are this one.
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=0")
	cmd.Stdin = strings.NewReader(release.sources)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return &step.Failure{
			What: fmt.Sprintf("mmdebstrap: %v\n%s", err, out.Bytes()),
			Hint: "It fetches packages from where this machine's apt does: try `apt-get update`.",
		}
	}
	return os.Rename(temp, file)
}
