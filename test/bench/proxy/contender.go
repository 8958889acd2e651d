package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/signpost-dev/signpost/test/host"
)

// contender is a program that leads packets to endpoints.
type contender struct {
	name string
	// start starts it on the host, with files in its folder.
	start func(context.Context, *host.Host) error
	// list prints its rules, one per line that starts with count.
	list  []string
	count string
	// names makes names known, and returns where to ask for them.
	names func(context.Context, *host.Host) (netip.AddrPort, error)
}

func iptablesSave(backend string) []string { return []string{"iptables-" + backend + "-save"} }

// contenders returns those whose name has only in it, after building Signpost.
func contenders(ctx context.Context, dir, only string) ([]contender, error) {
	binary := filepath.Join(dir, "signpost")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/signpost-dev/signpost/cmd/signpost")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build Signpost: %w\n%s", err, out)
	}
	ours := func(backend string) contender {
		return contender{"Signpost, " + backend, func(ctx context.Context, h *host.Host) error {
			return h.StartSignpost(ctx, binary, "proxy: {backend: "+backend+"}\n")
		}, iptablesSave(backend), "-A", ownNames}
	}
	all := []contender{ours("nft"), ours("legacy")}
	for _, k := range host.KubeProxies() {
		list, count := iptablesSave(k.Backend), "-A"
		if k.Mode == "nftables" {
			list, count = []string{"nft", "list", "table", "ip", "kube-proxy"}, ""
		}
		all = append(all, contender{"kube-proxy " + k.Mode + ", " + k.Backend, func(ctx context.Context, h *host.Host) error {
			return h.StartKubeProxy(ctx, k, "--cluster-cidr="+podRange)
		}, list, count, withCoreDNS})
	}
	var out []contender
	for _, c := range all {
		if strings.Contains(c.name, only) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-only: no contender has %q in its name", only)
	}
	return out, nil
}
