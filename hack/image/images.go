package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/signpost-dev/signpost/hack/cluster/step"
	"github.com/signpost-dev/signpost/hack/image/archive"
)

// recipe is what an image is made of.
type recipe struct {
	name string // the image is signpost.dev/NAME:dev
	// program is the package of a Go program that the image starts, or empty.
	program string
	// packages of Debian, with what they depend on. Without any, the image has
	// no file system but the program.
	packages []string
	cmd      []string
}

// recipes are all images. Dockerfile has the same content as the first.
func recipes() []recipe {
	return []recipe{
		// Both iptables programs, what deletes connections, and what loads kernel
		// modules where the machine's are mounted.
		{name: "signpost", program: "./cmd/signpost", packages: []string{"conntrack", "iptables", "kmod"}},
		// What the textbook's Services lead to.
		{name: "kuard", program: "./test/kuard"},
		// The pod that one looks at the cluster from.
		{name: "toolbox", cmd: []string{"sleep", "infinity"},
			packages: []string{"bind9-dnsutils", "curl", "iproute2", "iputils-ping", "netcat-openbsd"}},
		// What containerd makes pods of.
		{name: "pause", program: "./hack/image/pause"},
	}
}

func names() []string {
	var out []string
	for _, r := range recipes() {
		out = append(out, r.name)
	}
	return out
}

// programDir is where an image has its program.
const programDir = "/usr/local/bin"

// builder builds images.
type builder struct {
	checkout, cache, out string
	printer              *step.Printer
}

// build builds an image into a file, over a root file system that it makes first
// if it has to.
func (b *builder) build(ctx context.Context, r recipe, file string) error {
	img := archive.Image{Ref: "signpost.dev/" + r.name + ":dev", Cmd: r.cmd}
	if len(r.packages) > 0 {
		var err error
		if img.Base, err = b.rootfs(ctx, r.packages); err != nil {
			return err
		}
	}
	return b.printer.Do(file+" built", func() error { return b.assemble(ctx, r, img, file) })
}

func (b *builder) assemble(ctx context.Context, r recipe, img archive.Image, file string) (err error) {
	if r.program != "" {
		temp, err := os.MkdirTemp("", "signpost-image-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
		program := filepath.Join(temp, r.name)
		if err := b.compile(ctx, r.program, program); err != nil {
			return err
		}
		img.Entrypoint = []string{programDir + "/" + r.name}
		img.Files = map[string]string{img.Entrypoint[0]: program}
	}
	return archive.Write(file, img)
}

// compile builds a program that needs no library of the image.
func (b *builder) compile(ctx context.Context, pkg, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-ldflags=-s -w", "-o", file, pkg)
	cmd.Dir = b.checkout
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return &step.Failure{What: pkg + " does not build: " + err.Error() + "\n" + string(text)}
	}
	return nil
}
