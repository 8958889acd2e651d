package host

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/signpost-dev/signpost/test/apiserver"
)

// corefile is kubeadm's, with a kubeconfig, and with an upstream server and a cache that may differ.
const corefile = `.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       kubeconfig %s
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . %s {
       max_concurrent 1000
    }
    %s
    loop
    reload
    loadbalance
}
`

// Caches of CoreDNS.
const (
	// CacheAll is what kubeadm had until 1.29, and what costs CoreDNS least.
	CacheAll = "cache 30"
	// CacheOthers is kubeadm's since then: what comes from the API is not cached.
	CacheOthers = "cache 30 {\n disable success cluster.local\n disable denial cluster.local\n }"
)

// CoreDNS returns the program and the arguments for it, with kubeadm's Corefile but
// for the upstream server, host:port, and the cache.
func (h *Host) CoreDNS(upstream, cache string) (program string, args []string, err error) {
	if program, err = apiserver.CoreDNS(); err != nil {
		return "", nil, err
	}
	file := filepath.Join(h.Dir, "Corefile")
	return program, []string{"-conf", file}, os.WriteFile(file, fmt.Appendf(nil, corefile, h.Kubeconfig, upstream, cache), 0o600)
}
