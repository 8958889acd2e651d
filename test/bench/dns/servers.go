package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/host"
)

// upstream is where names of others are answered, on each node.
const upstream = "127.0.0.1:5300"

// contender is a name server.
type contender struct {
	name  string
	start func(context.Context, *host.Host, *world) error
	// at is where it answers.
	at netip.AddrPort
}

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
    forward . ` + upstream + ` {
       max_concurrent 1000
    }
    %s
    loop
    reload
    loadbalance
}
`

func contenders(ctx context.Context, dir string) ([]contender, error) {
	binary := filepath.Join(dir, "signpost")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/signpost-dev/signpost/cmd/signpost")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build Signpost: %w\n%s", err, out)
	}
	coreDNS, err := apiserver.CoreDNS()
	if err != nil {
		return nil, err
	}
	service := netip.AddrPortFrom(netip.MustParseAddr(dnsAddr), 53)
	node := netip.MustParseAddrPort("192.168.1.10:53")
	theirs := func(name, cache string) contender {
		return contender{name: name, at: node, start: func(ctx context.Context, h *host.Host, _ *world) error {
			file := filepath.Join(h.Dir, "Corefile")
			if err := os.WriteFile(file, fmt.Appendf(nil, corefile, h.Kubeconfig, cache), 0o600); err != nil {
				return err
			}
			return h.Start(ctx, nil, coreDNS, "-conf", file)
		}}
	}
	out := []contender{
		{name: "Signpost", at: service, start: func(ctx context.Context, h *host.Host, _ *world) error {
			// What has nothing to do with names is off.
			return h.StartSignpost(ctx, binary, "proxy: {enabled: false}\ndns: {upstreams: [\""+upstream+"\"]}\n")
		}},
		theirs("CoreDNS", "cache 30"),
		theirs("CoreDNS, NodeLocal's cache", "cache {\n success 9984 30\n denial 9984 5\n }"),
	}
	if program, err := exec.LookPath("unbound"); err == nil {
		out = append(out, contender{name: "unbound, constants", at: node, start: func(ctx context.Context, h *host.Host, w *world) error {
			return startUnbound(ctx, h, w, program)
		}})
	} else {
		fmt.Fprintln(os.Stderr, "unbound is not installed (apt-get install unbound), so the ceiling is not measured")
	}
	return out, nil
}

// startUnbound starts unbound with the records of all Services as local data.
func startUnbound(ctx context.Context, h *host.Host, w *world, program string) error {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
  interface: 0.0.0.0
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  use-syslog: no
  username: ""
  chroot: ""
  pidfile: ""
  num-threads: 2
  so-reuseport: yes
  do-not-query-localhost: no
  module-config: "iterator"
  local-zone: "cluster.local." static
  local-data: "cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30"
`)
	for i, name := range w.names {
		fmt.Fprintf(&b, "  local-data: \"%s 30 IN A %s\"\n  local-data: \"_http._tcp.%s 30 IN SRV 0 100 80 %s\"\n", name, w.addrs[i], name, name)
	}
	fmt.Fprintf(&b, "forward-zone:\n  name: \".\"\n  forward-addr: %s\n", strings.Replace(upstream, ":", "@", 1))
	file := filepath.Join(h.Dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return h.Start(ctx, nil, program, "-d", "-c", file)
}
