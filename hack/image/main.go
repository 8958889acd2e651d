// Command image builds the container images of Signpost and of its local
// cluster, as docker-archives, without a container engine:
//
//	go run ./hack/image [-o DIR] [NAME…]
//
// Without names it builds all: see images.go. README.md says how to use them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/signpost-dev/signpost/hack/cluster/place"
	"github.com/signpost-dev/signpost/hack/cluster/step"
)

func main() {
	out := flag.String("o", "", "folder to write to (default bin/images in the checkout)")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: go run ./hack/image [-o DIR] [NAME…]\n\nNames: %s\n", strings.Join(names(), " "))
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string, wanted []string) error {
	checkout, err := place.Checkout()
	if err != nil {
		return err
	}
	cache, err := place.Cache()
	if err != nil {
		return err
	}
	if out == "" {
		out = place.Images(checkout)
	}
	for _, name := range wanted {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("there is no image %q: want one of %s", name, strings.Join(names(), ", "))
		}
	}
	b := builder{checkout: checkout, cache: cache, out: out, printer: &step.Printer{Out: os.Stderr}}
	for _, r := range recipes() {
		if len(wanted) > 0 && !slices.Contains(wanted, r.name) {
			continue
		}
		file := filepath.Join(out, r.name+".tar")
		if err := b.build(ctx, r, file); err != nil {
			return err
		}
	}
	return nil
}
