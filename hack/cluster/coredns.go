package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/signpost-dev/signpost/hack/cluster/step"
	"github.com/signpost-dev/signpost/hack/image/archive"
)

const coreDNSImage = "signpost.dev/coredns:dev"

// coreDNSArchive is beside the program, as it is the same for all checkouts.
func (c *cluster) coreDNSArchive() string {
	program, err := c.program(coreDNS)
	if err != nil {
		// Its source is part of the checkout; without it nothing was built.
		return ""
	}
	return filepath.Join(filepath.Dir(program), "coredns.tar")
}

// ensureCoreDNSImage makes an image of the program, which has been built.
func (c *cluster) ensureCoreDNSImage() error {
	file := c.coreDNSArchive()
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	program, err := c.program(coreDNS)
	if err != nil {
		return err
	}
	return archive.Write(file, archive.Image{
		Ref: coreDNSImage, Entrypoint: []string{"/usr/local/bin/coredns"}, Files: map[string]string{"/usr/local/bin/coredns": program},
	})
}

// deployCoreDNS deploys it as clusters have it, and waits until it answers.
func (c *cluster) deployCoreDNS(ctx context.Context) error {
	values, err := coreDNSValues()
	if err != nil {
		return err
	}
	manifest, err := render("coredns.yaml", values)
	if err != nil {
		return err
	}
	if err := c.apply(ctx, manifest); err != nil {
		return err
	}
	_, err = c.runKubectl(ctx, nil, "rollout", "status", "--namespace=kube-system", "deployment/coredns", "--timeout=120s")
	if err != nil {
		return &step.Failure{What: "CoreDNS did not become ready", Err: err,
			Hint: "See what it says: go run ./hack/cluster kubectl logs -n kube-system -l k8s-app=kube-dns"}
	}
	return nil
}
