package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signpost-dev/signpost/hack/cluster/debian"
	"github.com/signpost-dev/signpost/hack/cluster/step"
)

// What may do a job in the cluster.
const (
	signpost  = "signpost" // deployed by the user: kubectl apply -k config/default
	kubeProxy = "kube-proxy"
	coreDNS   = "coredns"
	nobody    = "none"
)

// debianPackages are what the nodes and the control plane are made of, besides
// what is built.
func debianPackages() []string {
	return []string{"containerd", "containernetworking-plugins", "etcd-server", "iproute2", "iptables", "conntrack", "runc", "util-linux"}
}

// up is the command of that name.
func up(ctx context.Context, c *cluster, args []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	proxy := flags.String("proxy", "", "who leads packets to Services: signpost, kube-proxy or none (default signpost)")
	dns := flags.String("dns", "", "who answers for names: signpost, coredns or none (default signpost)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError(err.Error())
	}
	if err := noArguments(flags.Args()); err != nil {
		return err
	}
	if err := errors.Join(oneOf("proxy", *proxy, signpost, kubeProxy, nobody), oneOf("dns", *dns, signpost, coreDNS, nobody)); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("a node is a network namespace with mounts of its own, which only root can make: run it as root")
	}
	return c.exclusively(func() error {
		begin := time.Now()
		r, err := c.obtain(ctx, *proxy, *dns)
		if err != nil {
			return err
		}
		if err := c.prepare(ctx, r); err != nil {
			return err
		}
		if err := c.start(ctx, r); err != nil {
			return err
		}
		c.out.Say("\nThe cluster is up (%.1f s). To use it: eval \"$(go run ./hack/cluster env)\", or go run ./hack/cluster kubectl …", time.Since(begin).Seconds())
		c.out.Say("To remove it: go run ./hack/cluster down")
		return nil
	})
}

// obtain returns the record of the cluster to complete, or of a new one, also in
// place of one that is dead.
func (c *cluster) obtain(ctx context.Context, proxy, dns string) (*record, error) {
	r, err := c.claim(proxy, dns)
	if err != nil {
		return nil, err
	}
	if r != nil && !r.dead() {
		return r, nil
	}
	if err := c.vacant(r); err != nil {
		return nil, err
	}
	if r != nil {
		c.out.Say("Nothing runs of the cluster that %s made on %s: it is removed, and a new one made.", r.Checkout, r.Created.Format(time.DateTime))
		if err := c.remove(ctx, r); err != nil {
			return nil, err
		}
	}
	return c.newRecord(either(proxy, signpost), either(dns, signpost))
}

// claim returns the record of the cluster that is there, nil if there is none, or
// says why it is not for this command. An empty proxy or dns is that which it has.
func (c *cluster) claim(proxy, dns string) (*record, error) {
	r, err := readRecord(c.paths.record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; remove what is there: go run ./hack/cluster down --force", err)
	}
	if r.dead() {
		return r, nil
	}
	if err := r.ownedBy(c.checkout, c.paths.dir); err != nil {
		return nil, err
	}
	if (proxy != "" && proxy != r.Proxy) || (dns != "" && dns != r.DNS) {
		return nil, fmt.Errorf("the cluster has --proxy=%s --dns=%s, and that cannot be changed: remove it first: go run ./hack/cluster down", r.Proxy, r.DNS)
	}
	return r, nil
}

// vacant returns nil if the machine has room for a new cluster, in place of the
// dead one of r or, if r is nil, of none.
func (c *cluster) vacant(r *record) error {
	owner, err := bridgeOwner()
	if err != nil {
		return err
	}
	return besides(owner, c.paths.dir, r != nil)
}

// besides returns an error if a cluster other than the dead one of the folder has
// the bridge: removing that would take this along, as they share names.
func besides(owner, dir string, dead bool) error {
	if owner == "" || (dead && owner == dir) {
		return nil
	}
	return fmt.Errorf("this machine has a cluster already, and there can be one: the link %s belongs to %s; to remove it: SIGNPOST_CLUSTER_DIR=%[2]s go run ./hack/cluster down --force", bridgeName, owner)
}

// free is the command of that name: it fails if `up` would not make a new cluster.
func free(_ context.Context, c *cluster, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	return c.exclusively(func() error {
		r, err := c.claim("", "")
		if err != nil {
			return err
		}
		if r != nil && !r.dead() {
			return fmt.Errorf("the cluster in %s is up, since %s, and there can be one; to remove it: go run ./hack/cluster down", c.paths.dir, r.Created.Format(time.DateTime))
		}
		return c.vacant(r)
	})
}

func either(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func (c *cluster) newRecord(proxy, dns string) (*record, error) {
	for _, folder := range ownFolders() {
		if strings.HasPrefix(c.paths.dir+"/", folder+"/") || strings.HasPrefix(c.cache+"/", folder+"/") {
			return nil, fmt.Errorf("nodes have a %s of their own and would not see what is in the machine's: set SIGNPOST_CLUSTER_DIR and SIGNPOST_CACHE to other folders", folder)
		}
	}
	if err := os.MkdirAll(c.paths.dir, 0o755); err != nil {
		return nil, err
	}
	r := &record{
		Checkout: c.checkout, Created: time.Now().Truncate(time.Second), Proxy: proxy, DNS: dns,
		Processes: map[string]process{}, Imported: map[string]map[string]string{}, file: c.paths.record(),
	}
	return r, r.change(func() {})
}

// prepare gets all that the cluster is started from.
func (c *cluster) prepare(ctx context.Context, r *record) error {
	if err := debian.Ensure(ctx, c.out.Out, debianPackages()...); err != nil {
		return err
	}
	warnOfFirewall(ctx, c.out)
	programs, err := c.neededPrograms(r.Proxy, r.DNS)
	if err != nil {
		return err
	}
	if err := c.build(ctx, programs...); err != nil {
		return err
	}
	if err := c.ensurePause(ctx); err != nil {
		return err
	}
	if r.DNS == coreDNS {
		if err := c.ensureCoreDNSImage(); err != nil {
			return err
		}
	}
	if err := c.ensurePKI(); err != nil {
		return err
	}
	components := []string{"admin", controllerName, schedulerName, kubeProxy}
	for _, n := range nodes() {
		components = append(components, n.String())
	}
	for _, component := range components {
		if err := c.writeKubeconfig(component); err != nil {
			return err
		}
	}
	return nil
}

// warnOfFirewall says so if the machine's firewall is going to drop what the nodes
// send each other: the cluster would look well and not work.
func warnOfFirewall(ctx context.Context, out *step.Printer) {
	bridged, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
	if err != nil || strings.TrimSpace(string(bridged)) != "1" {
		return
	}
	rules, err := exec.CommandContext(ctx, "iptables", "-w", "-S", "FORWARD").Output()
	if err == nil && strings.HasPrefix(string(rules), "-P FORWARD DROP") {
		out.Say("    warning: this machine's firewall drops forwarded packets (iptables -S FORWARD), those on bridges included:")
		out.Say("    the nodes may not reach each other; allow it: iptables -I FORWARD -i %[1]s -o %[1]s -j ACCEPT", bridgeName)
	}
}

// start starts what does not run. The nodes, which have to unpack images, are
// made while the API server starts.
func (c *cluster) start(ctx context.Context, r *record) error {
	if err := errors.Join(makeGroups(), makeMountPoints(r)); err != nil {
		return err
	}
	if err := c.ensureBridge(); err != nil {
		return err
	}
	group, early := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := c.out.Do("etcd ready", func() error { return c.startEtcd(early, r) }); err != nil {
			return err
		}
		return c.out.Do(apiServerName+" ready", func() error { return c.startAPIServer(early, r) })
	})
	group.Go(func() error { return c.startOutside(r) })
	for _, n := range nodes() {
		group.Go(func() error {
			return c.out.Do(n.String()+" made, images imported", func() error { return c.startNode(early, r, n) })
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := routeToPods(); err != nil {
		return err
	}
	return c.startKubernetes(ctx, r)
}

// startKubernetes starts what talks to the API server.
func (c *cluster) startKubernetes(ctx context.Context, r *record) error {
	if err := errors.Join(c.startControllers(r), c.startScheduler(r)); err != nil {
		return err
	}
	manifest, err := render("cluster.yaml", clusterValues())
	if err != nil {
		return err
	}
	// The namespace kube-system may take a moment to be there.
	err = step.Await(ctx, 30*time.Second, func(ctx context.Context) error { return c.apply(ctx, manifest) })
	if err != nil {
		return err
	}
	for _, n := range nodes() {
		if err := c.startKubelet(r, n); err != nil {
			return err
		}
	}
	if err := c.out.Do("nodes ready", func() error { return c.awaitNodes(ctx, r) }); err != nil {
		return err
	}
	if r.DNS == coreDNS {
		return c.out.Do("CoreDNS ready", func() error { return c.deployCoreDNS(ctx) })
	}
	return nil
}

// installPackages is the command `packages`.
func installPackages(ctx context.Context, c *cluster, names []string) error {
	return debian.Ensure(ctx, c.out.Out, names...)
}
