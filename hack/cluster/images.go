package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/hack/cluster/place"
	"github.com/signpost-dev/signpost/hack/cluster/step"
)

const pauseImage = "signpost.dev/pause:dev"

// ensurePause builds the one image that no pod can do without, if it is missing.
// The others are what `go run ./hack/image` has built.
func (c *cluster) ensurePause(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(place.Images(c.checkout), "pause.tar")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "run", "./hack/image", "pause")
	cmd.Dir = c.checkout
	cmd.Stdout, cmd.Stderr = c.out.Out, c.out.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go run ./hack/image pause: %w", err)
	}
	return nil
}

// imageFiles are the images to import: those of the checkout and CoreDNS's.
func (c *cluster) imageFiles(dns string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(place.Images(c.checkout), "*.tar"))
	if err != nil {
		return nil, err
	}
	if dns == coreDNS {
		found = append(found, c.coreDNSArchive())
	}
	return found, nil
}

// importImages imports those of the images that are not the ones that were
// imported last, and returns their names.
func (c *cluster) importImages(ctx context.Context, r *record, n node) ([]string, error) {
	files, err := c.imageFiles(r.DNS)
	if err != nil {
		return nil, err
	}
	var imported []string
	for _, file := range files {
		name := filepath.Base(file)
		digest, err := digestOf(file)
		if err != nil {
			return nil, err
		}
		if r.imported(n.String(), name) == digest {
			continue
		}
		err = runInNode(ctx, r.process(n.String()), "ctr", "--namespace=k8s.io", "images", "import", file)
		if err != nil {
			return nil, &step.Failure{What: fmt.Sprintf("%s was not imported on %s: %v", file, n, err), Log: c.paths.log(containerdName(n)),
				Hint: "Build it anew: go run ./hack/image"}
		}
		err = r.change(func() {
			if r.Imported[n.String()] == nil {
				r.Imported[n.String()] = map[string]string{}
			}
			r.Imported[n.String()][name] = digest
		})
		if err != nil {
			return nil, err
		}
		imported = append(imported, name)
	}
	return imported, nil
}

func digestOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// load is the command of that name.
func load(ctx context.Context, c *cluster, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	return c.exclusively(func() error {
		r, err := c.owned()
		if err != nil {
			return err
		}
		if err := c.loadImages(ctx, r); err != nil {
			return err
		}
		return c.restartDaemonSet(ctx)
	})
}

func (c *cluster) loadImages(ctx context.Context, r *record) error {
	byNode := make([][]string, len(nodes()))
	err := c.out.Do("images imported", func() error {
		group, ctx := errgroup.WithContext(ctx)
		for i, n := range nodes() {
			if !r.process(containerdName(n)).alive() {
				return fmt.Errorf("containerd of %s does not run; start what is missing: go run ./hack/cluster up", n)
			}
			group.Go(func() (err error) {
				byNode[i], err = c.importImages(ctx, r, n)
				return err
			})
		}
		return group.Wait()
	})
	if err != nil {
		return err
	}
	changed := slices.Compact(slices.Sorted(slices.Values(slices.Concat(byNode...))))
	if len(changed) == 0 {
		c.out.Say("    all were there already")
	} else {
		c.out.Say("    new: %v", changed)
	}
	return nil
}

// restartDaemonSet makes the DaemonSet of Signpost, if there is one, run what was
// imported last.
func (c *cluster) restartDaemonSet(ctx context.Context) error {
	found, err := c.runKubectl(ctx, nil, "get", "--namespace=kube-system", "daemonset/signpost", "--ignore-not-found", "--output=name")
	if err != nil {
		return err
	}
	if found == "" {
		c.out.Say("    Signpost is not deployed yet: kubectl apply -k config/default")
		return nil
	}
	return c.out.Do("DaemonSet restarted", func() error {
		if _, err := c.runKubectl(ctx, nil, "rollout", "restart", "--namespace=kube-system", "daemonset/signpost"); err != nil {
			return err
		}
		_, err := c.runKubectl(ctx, nil, "rollout", "status", "--namespace=kube-system", "daemonset/signpost", "--timeout=120s")
		if err != nil {
			return &step.Failure{What: "the DaemonSet of Signpost did not become ready", Err: err,
				Hint: "See what it says: go run ./hack/cluster kubectl logs -n kube-system -l k8s-app=signpost"}
		}
		return nil
	})
}
