package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// KubeProxyAddress is where kube-proxy says its mode, unless it is told otherwise.
const KubeProxyAddress = "127.0.0.1:10249"

// How often it is looked whether kube-proxy is gone, and how long it may take to
// answer.
const (
	kubeProxyPeriod   = time.Second
	kubeProxyPatience = 2 * time.Second
)

// AwaitNoKubeProxy returns when no kube-proxy is alive on this node, or ctx ends:
// both would translate the packets of the same Services, each by its own view. It says what to
// do about it when it finds one. address is KubeProxyAddress, but in tests.
//
// A kube-proxy is known by its answer to /proxyMode. Chains are no sign: those of one that has
// ended stay; Run names them.
func AwaitNoKubeProxy(ctx context.Context, address string, log *slog.Logger) error {
	said := false
	for {
		mode := kubeProxyMode(ctx, address)
		if mode == "" {
			if said {
				log.Info("kube-proxy is gone")
			}
			return ctx.Err()
		}
		if !said {
			said = true
			log.Error("kube-proxy is alive on this node, so Signpost waits until it is gone. Remove it (kubectl -n kube-system delete daemonset kube-proxy) "+
				"and its rules (kube-proxy --cleanup), or leave packets to it with proxy.enabled: false", "mode", mode, "address", address)
		}
		if !sleep(ctx, kubeProxyPeriod) {
			return ctx.Err()
		}
	}
}

// kubeProxyMode returns the mode of the kube-proxy that answers at address; "" if
// none does.
func kubeProxyMode(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, kubeProxyPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/proxyMode", http.NoBody)
	if err != nil {
		return ""
	}
	// Never by way of a proxy of the environment.
	transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext, DisableKeepAlives: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64))
	mode := strings.TrimSpace(string(body))
	if err != nil || res.StatusCode != http.StatusOK || !slices.Contains([]string{"iptables", "ipvs", "nftables"}, mode) {
		return ""
	}
	return mode
}
