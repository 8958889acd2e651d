package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

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
	// underLoad and following say what is measured of it: what it can answer, and how
	// soon after a change.
	underLoad, following bool
}

func contenders(ctx context.Context, dir string) ([]contender, error) {
	binary := filepath.Join(dir, "signpost")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/signpost-dev/signpost/cmd/signpost")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build Signpost: %w\n%s", err, out)
	}
	service := netip.AddrPortFrom(netip.MustParseAddr(dnsAddr), 53)
	node := netip.MustParseAddrPort("192.168.1.10:53")
	theirs := func(name, cache string) contender {
		return contender{name: name, underLoad: true, at: node, start: func(ctx context.Context, h *host.Host, _ *world) error {
			program, args, err := h.CoreDNS(upstream, cache)
			if err != nil {
				return err
			}
			return h.Start(ctx, nil, program, args...)
		}}
	}
	uncached := theirs("CoreDNS, its cache for other names only", host.CacheOthers)
	uncached.underLoad, uncached.following = false, true
	out := []contender{
		{name: "Signpost", underLoad: true, following: true, at: service, start: func(ctx context.Context, h *host.Host, _ *world) error {
			// What has nothing to do with names is off.
			return h.StartSignpost(ctx, binary, "proxy: {enabled: false}\ndns: {upstreams: [\""+upstream+"\"]}\n")
		}},
		theirs("CoreDNS", host.CacheAll),
		uncached,
		theirs("CoreDNS, NodeLocal's cache", "cache {\n success 9984 30\n denial 9984 5\n }"),
	}
	if program, err := exec.LookPath("unbound"); err == nil {
		out = append(out, contender{name: "unbound, constants", underLoad: true, at: node, start: func(ctx context.Context, h *host.Host, w *world) error {
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
