package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/signpost-dev/signpost/test/apiserver"
)

// KubeProxy is a way to run it.
type KubeProxy struct {
	// Mode is iptables or nftables; Backend, nft or legacy, which iptables programs it finds.
	Mode, Backend string
}

// KubeProxies are the ways that there are, what takes longest last.
func KubeProxies() []KubeProxy {
	return []KubeProxy{{"nftables", "nft"}, {"iptables", "legacy"}, {"iptables", "nft"}}
}

// StartKubeProxy starts it with its defaults and args. It finds the iptables programs of
// the backend under their plain names.
func (h *Host) StartKubeProxy(ctx context.Context, k KubeProxy, args ...string) error {
	program, err := apiserver.StockProgram("kube-proxy")
	if err != nil {
		return err
	}
	bin := filepath.Join(h.Dir, "bin-"+k.Backend)
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return err
	}
	multi, err := exec.LookPath("xtables-" + k.Backend + "-multi")
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
	return h.Start(ctx, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, program, append([]string{
		"--proxy-mode=" + k.Mode, "--kubeconfig=" + h.Kubeconfig, "--hostname-override=" + h.Name,
		// It may not touch what is not the namespace's alone.
		"--conntrack-max-per-core=0", "--conntrack-min=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
	}, args...)...)
}
