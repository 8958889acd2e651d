package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/bench/host"
)

// contender is a program that leads packets to endpoints.
type contender struct {
	name string
	// start starts it on the host, with files in its folder.
	start func(context.Context, *host.Host) error
	// list prints its rules, one per line that starts with count.
	list  []string
	count string
}

func iptablesSave(backend string) []string { return []string{"iptables-" + backend + "-save"} }

// contenders returns those whose name has only in it, after building Signpost.
func contenders(ctx context.Context, dir, only string) ([]contender, error) {
	binary := filepath.Join(dir, "signpost")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/signpost-dev/signpost/cmd/signpost")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build Signpost: %w\n%s", err, out)
	}
	stock, err := apiserver.StockProgram("kube-proxy")
	if err != nil {
		return nil, err
	}
	ours := func(backend string) contender {
		return contender{"Signpost, " + backend, func(ctx context.Context, h *host.Host) error {
			return h.StartSignpost(ctx, binary, "proxy: {backend: "+backend+"}\n")
		}, iptablesSave(backend), "-A"}
	}
	theirs := func(mode, backend string) contender {
		list, count := iptablesSave(backend), "-A"
		if mode == "nftables" {
			list, count = []string{"nft", "list", "table", "ip", "kube-proxy"}, ""
		}
		return contender{"kube-proxy " + mode + ", " + backend, func(ctx context.Context, h *host.Host) error {
			return startKubeProxy(ctx, h, stock, mode, backend)
		}, list, count}
	}
	var out []contender
	for _, c := range []contender{
		ours("nft"), ours("legacy"), theirs("nftables", "nft"), theirs("iptables", "legacy"), theirs("iptables", "nft"),
	} {
		if strings.Contains(c.name, only) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-only: no contender has %q in its name", only)
	}
	return out, nil
}

// startKubeProxy starts kube-proxy with its defaults. It finds the iptables programs of the
// backend under their plain names.
func startKubeProxy(ctx context.Context, h *host.Host, program, mode, backend string) error {
	bin := filepath.Join(h.Dir, "bin-"+backend)
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return err
	}
	multi, err := exec.LookPath("xtables-" + backend + "-multi")
	if err != nil {
		return fmt.Errorf("%w; `make packages` installs it", err)
	}
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(multi, filepath.Join(bin, name+suffix)); err != nil && !os.IsExist(err) {
				return err
			}
		}
	}
	return h.Start(ctx, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, program,
		"--proxy-mode="+mode, "--kubeconfig="+h.Kubeconfig, "--hostname-override="+h.Name, "--cluster-cidr="+podRange,
		// It may not touch what is not the namespace's alone.
		"--conntrack-max-per-core=0", "--conntrack-min=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
}
