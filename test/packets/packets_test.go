//go:build integration

package packets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/host"
	"github.com/signpost-dev/signpost/test/netlab"
)

// podRanges are this node's.
const podRanges = "10.0.1.0/24,fd02:0:0:1::/64"

// far are addresses of a pod of another node, which is found by way of outside.
// second are more addresses of the node.
var (
	far    = []netip.Addr{netip.MustParseAddr("10.0.2.1"), netip.MustParseAddr("fd02:0:0:2::1")}
	second = []netip.Addr{netip.MustParseAddr("192.168.7.10"), netip.MustParseAddr("fd07::10")}
)

// system is a program that leads packets to endpoints.
type system struct {
	name string
	// mode is that of kube-proxy; empty for ours.
	mode  string
	start func(context.Context, *host.Host, *setting) error
}

func systems(t *testing.T) []system {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "signpost")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/signpost-dev/signpost/cmd/signpost")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build Signpost: %v\n%s", err, out)
	}
	var out []system
	for _, backend := range []string{"nft", "legacy"} {
		out = append(out, system{"Signpost, " + backend, "", func(ctx context.Context, h *host.Host, s *setting) error {
			return h.StartSignpost(ctx, binary, fmt.Sprintf("dns: {enabled: false}\nproxy: {backend: %s, %s}\n", backend, s.ours))
		}})
	}
	for _, k := range host.KubeProxies() {
		out = append(out, system{"kube-proxy " + k.Mode + ", " + k.Backend, k.Mode, func(ctx context.Context, h *host.Host, s *setting) error {
			return h.StartKubeProxy(ctx, k, s.theirs...)
		}})
	}
	return out
}

// TestTable runs the table with real packets through every system, in both families and by
// TCP and UDP in turn.
func TestTable(t *testing.T) {
	server, err := apiserver.Start(t.Context(), apiserver.Options{Args: []string{"--service-cluster-ip-range=" + apiserver.ServiceCIDR + ",fd00:96::/108"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	c, err := client.New(server.Config(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	world := &world{server: server, client: c}
	for _, s := range systems(t) {
		settings := []setting{usual()}
		if s.mode != "nftables" {
			settings = append(settings, others()...)
		}
		for _, setting := range settings {
			t.Run(s.name+"; "+setting.name, func(t *testing.T) { world.run(t, s, &setting) })
		}
	}
}

// world is the cluster.
type world struct {
	server  *apiserver.Server
	client  client.Client
	written bool
}

// run starts a system on a node of its own, and runs the table of a setting.
func (w *world) run(t *testing.T, s system, with *setting) {
	h, err := host.New(t.TempDir(), nodeName, w.server, "client", "a", "b", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", s.name, h.Log())
		}
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
	})
	serve(t, h)
	for i := range far {
		if err := errors.Join(h.Outside.AddAddr(far[i]), h.Node.AddAddr(second[i])); err != nil {
			t.Fatal(err)
		}
	}
	// The kernel says few times per second that something is refused; here it is asked often.
	for _, limit := range []string{"ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"} {
		if err := h.Node.Sysctl(limit, "0"); err != nil {
			t.Fatal(err)
		}
	}
	if !w.written {
		writeObjects(t, w.client, h)
		w.written = true
	}
	if err := s.start(t.Context(), h, with); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, Host: h, system: s}
	r.awaitAll()
	for i, p := range with.probes {
		r.check(p, i)
	}
	if with.more != nil {
		with.more(r, w.client)
	}
}

// serve has the pods answer everybody.
func serve(t *testing.T, h *host.Host) {
	t.Helper()
	for _, pod := range h.Pods {
		for _, a := range pod.Addrs {
			for _, network := range []string{"tcp", "udp"} {
				if _, err := pod.Serve(network, netip.AddrPortFrom(a, 8080)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// writeObjects makes the cluster. All hosts have the same addresses.
func writeObjects(t *testing.T, c client.Client, h *host.Host) {
	t.Helper()
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName, Labels: map[string]string{corev1.LabelTopologyZone: zone}},
		Spec:       corev1.NodeSpec{PodCIDR: strings.Split(podRanges, ",")[0], PodCIDRs: strings.Split(podRanges, ",")},
	}
	if err := c.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	for _, a := range h.Node.Addrs[:2] {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	if err := c.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	addrs := map[string][2]string{}
	for _, pod := range h.Pods {
		addrs[pod.Name] = [2]string{pod.Addrs[0].String(), pod.Addrs[1].String()}
	}
	for i, f := range fixtures() {
		f.write(t.Context(), t, c, i, addrs)
	}
}

// rig is a system that runs.
type rig struct {
	*host.Host
	t      *testing.T
	system system
	// sent is how many packets of SCTP there were.
	sent uint16
}

// awaitAll waits until the last Service is there in both families, and with it all others.
func (r *rig) awaitAll() {
	r.t.Helper()
	const limit = 30 * time.Second
	for family := range 2 {
		to := r.address("last", family)
		for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
			ctx, cancel := context.WithTimeout(r.t.Context(), 200*time.Millisecond)
			_, err := r.Pod("client").Dial(ctx, "tcp", to)
			cancel()
			if err == nil {
				break
			}
			if time.Now().After(end) {
				r.t.Fatalf("%s does not answer after %v: %v", to, limit, err)
			}
		}
	}
	time.Sleep(time.Second) // kube-proxy's next sync has what its first may not have had
}

// check runs one row in both families.
func (r *rig) check(p probe, i int) {
	r.t.Helper()
	for family := range 2 {
		if family == 1 && strings.HasSuffix(p.to, "/localhost") {
			continue // the kernel lets nothing from ::1 leave the node
		}
		network := []string{"tcp", "udp"}[(i+family)%2]
		if p.from == "node" && (p.want == refused || p.want == closed || p.want == silence) {
			network = "tcp" // a datagram of the node's own fails in the same way for both
		}
		want := p.want
		if r.system.mode != "" {
			want = theirs(p, r.system.mode, network, family)
		}
		if want == closed {
			want = refused
		}
		row := p
		row.want = want
		if got := r.ask(row, network, r.address(p.to, family)); got != want {
			r.t.Errorf("%s from %s to %s, IPv%d: %s, want %s", network, p.from, p.to, 4+2*family, got, want)
		}
	}
}

func (r *rig) place(name string) *netlab.Namespace {
	switch name {
	case "node":
		return r.Node
	case "outside", "far":
		return r.Outside
	}
	return r.Pod(name)
}

// address finds a front end.
func (r *rig) address(to string, family int) netip.AddrPort {
	r.t.Helper()
	if to == "nobody" {
		return netip.AddrPortFrom(netip.MustParseAddr([]string{"10.96.77.77", "fd00:96::7777"}[family]), 80)
	}
	name, kind, _ := strings.Cut(to, "/")
	name, port, other := strings.Cut(name, ":")
	i := slices.IndexFunc(fixtures(), func(f fixture) bool { return f.name == name })
	if i < 0 {
		r.t.Fatalf("%s: there is no such Service", to)
	}
	f := fixtures()[i]
	number := uint16(80)
	if other {
		if _, err := fmt.Sscan(port, &number); err != nil {
			r.t.Fatal(err)
		}
	}
	s := &corev1.Service{Spec: corev1.ServiceSpec{Ports: make([]corev1.ServicePort, 2)}}
	if f.change != nil {
		f.change(s)
	}
	at := clusterIPs(i)[family]
	switch kind {
	case "node":
		at, number = r.Node.Addrs[family].String(), uint16(s.Spec.Ports[0].NodePort)
	case "second":
		at, number = second[family].String(), uint16(s.Spec.Ports[0].NodePort)
	case "localhost":
		at, number = "127.0.0.1", uint16(s.Spec.Ports[0].NodePort)
	case "external":
		at = s.Spec.ExternalIPs[family]
	case "balancer":
		at = f.balancers[family].IP
	}
	return netip.AddrPortFrom(netip.MustParseAddr(at), number)
}

// ask connects so often that none of three endpoints is missed.
func (r *rig) ask(p probe, network string, to netip.AddrPort) string {
	r.t.Helper()
	from := r.place(p.from)
	source, own := netip.AddrPort{}, from.Addrs
	if p.from == "far" {
		own = far
		source = netip.AddrPortFrom(far[0], 0)
		if to.Addr().Is6() {
			source = netip.AddrPortFrom(far[1], 0)
		}
	}
	limit := 2 * time.Second // a busy machine is no silence
	if p.want == silence {
		limit = 300 * time.Millisecond
	}
	seen := map[string]bool{}
	for range 40 {
		ctx, cancel := context.WithTimeout(r.t.Context(), limit)
		var got netlab.Answer
		var err error
		if source.IsValid() {
			got, err = from.DialFrom(ctx, network, source, to)
		} else {
			got, err = from.Dial(ctx, network, to)
		}
		cancel()
		switch {
		case err == nil && slices.Contains(own, got.Seen.Addr()) && from != r.Node:
			seen[got.Name] = true
		case err == nil:
			seen["("+got.Name+")"] = true
		case errors.Is(err, syscall.ECONNREFUSED):
			return refused
		case errors.Is(err, os.ErrDeadlineExceeded):
			return silence
		default:
			return err.Error()
		}
	}
	var out []string
	for name := range seen {
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(strings.Trim(a, "()"), strings.Trim(b, "()")) })
	if strings.HasPrefix(p.want, "one of ") && len(out) == 1 && strings.Contains(p.want, out[0]) {
		return p.want
	}
	return strings.Join(out, " ")
}
