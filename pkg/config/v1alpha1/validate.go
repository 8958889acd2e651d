package v1alpha1

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Validate returns every fault of the configuration, each with the path of its
// field.
func (c *SignpostConfiguration) Validate() []error {
	var v faults
	v.clientConnection(&c.ClientConnection)
	v.leaderElection(&c.LeaderElection)
	v.between("controllers.concurrency", c.Controllers.Concurrency, 1, 100)
	v.between("controllers.endpointSlice.maxEndpointsPerSlice", c.Controllers.EndpointSlice.MaxEndpointsPerSlice, 1, 1000)
	if c.Controllers.EndpointSlice.BatchPeriod.Duration < 0 {
		v.add("controllers.endpointSlice.batchPeriod", "%s is negative", c.Controllers.EndpointSlice.BatchPeriod.Duration)
	}
	v.between("controllers.endpointSliceMirroring.maxEndpointsPerSubset", c.Controllers.EndpointSliceMirroring.MaxEndpointsPerSubset, 1, 1000)
	v.gate(&c.Controllers.Readiness.Gate)
	if !slices.Contains([]NodeFailure{NodeFailureOff, NodeFailureConservative, NodeFailureFast}, c.Controllers.NodeFailure) {
		v.add("controllers.nodeFailure", "%q is not one of off, conservative and fast", c.Controllers.NodeFailure)
	}
	v.proxy(&c.Proxy)
	v.dns(&c.DNS)
	v.between("peers.port", c.Peers.Port, 1, 65535)
	v.between("announce.port", c.Announce.Port, 1, 65535)
	if c.Announce.Enabled && c.Peers.Enabled && c.Announce.Port == c.Peers.Port {
		v.add("announce.port", "%d is that of peers, too", c.Announce.Port)
	}
	v.hostPort("health.bindAddress", c.Health.BindAddress)
	if c.Metrics.BindAddress != "" {
		v.hostPort("metrics.bindAddress", c.Metrics.BindAddress)
	}
	return v
}

type faults []error

func (v *faults) add(path, format string, args ...any) {
	*v = append(*v, fmt.Errorf(path+": "+format, args...))
}

func (v *faults) between(path string, n, low, high int) {
	if n < low || n > high {
		v.add(path, "%d is not between %d and %d", n, low, high)
	}
}

func (v *faults) positive(path string, d metav1.Duration) {
	if d.Duration <= 0 {
		v.add(path, "%s is not greater than 0", d.Duration)
	}
}

func (v *faults) hostPort(path, s string) {
	if _, err := netip.ParseAddrPort(s); err != nil {
		v.add(path, "%q is not an address and port, such as 127.0.0.1:53 or [::1]:53", s)
	}
}

// ownAddress wants an address that can be put onto a node.
func (v *faults) ownAddress(path, s string) {
	at, err := netip.ParseAddrPort(s)
	if a := at.Addr(); err != nil || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "" || at.Port() == 0 {
		v.add(path, "%q is not one address with a port, such as 169.254.20.10:53", s)
	}
}

func (v *faults) clientConnection(c *ClientConnection) {
	if c.QPS > 0 && c.Burst < 1 {
		v.add("clientConnection.burst", "%d is not greater than 0, as qps is", c.Burst)
	}
	if c.Server == "" {
		return
	}
	if u, err := url.Parse(c.Server); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		v.add("clientConnection.server", "%q is not a URL such as https://10.0.0.1:6443", c.Server)
	}
}

func (v *faults) leaderElection(c *LeaderElection) {
	v.names("leaderElection.resourceName", c.ResourceName, validation.IsDNS1123Subdomain)
	v.names("leaderElection.resourceNamespace", c.ResourceNamespace, validation.IsDNS1123Label)
	v.positive("leaderElection.retryPeriod", c.RetryPeriod)
	v.between("leaderElection.candidates", c.Candidates, 1, 100)
	if c.LeaseDuration.Duration <= c.RenewDeadline.Duration {
		v.add("leaderElection.leaseDuration", "%s is not longer than renewDeadline, %s", c.LeaseDuration.Duration, c.RenewDeadline.Duration)
	}
	// client-go waits retryPeriod with a jitter of up to 1.2 times as much again.
	if c.RenewDeadline.Duration.Seconds() <= 1.2*c.RetryPeriod.Seconds() {
		v.add("leaderElection.renewDeadline", "%s is not longer than 1.2 times retryPeriod, %s", c.RenewDeadline.Duration, c.RetryPeriod.Duration)
	}
}

func (v *faults) gate(c *ReadinessGate) {
	if c.Nodes.Type == intstr.Int {
		if c.Nodes.IntVal < 1 {
			v.add("controllers.readiness.gate.nodes", "%d is not greater than 0", c.Nodes.IntVal)
		}
	} else if n, err := strconv.Atoi(strings.TrimSuffix(c.Nodes.StrVal, "%")); err != nil || n < 1 || n > 100 || !strings.HasSuffix(c.Nodes.StrVal, "%") {
		v.add("controllers.readiness.gate.nodes", "%q is not a share between 1%% and 100%%, nor a number", c.Nodes.StrVal)
	}
	v.positive("controllers.readiness.gate.timeout", c.Timeout)
}

func (v *faults) names(path, s string, check func(string) []string) {
	for _, wrong := range check(s) {
		v.add(path, "%q: %s", s, wrong)
	}
}

func (v *faults) proxy(c *Proxy) {
	if !slices.Contains([]Backend{BackendAuto, BackendNFT, BackendLegacy}, c.Backend) {
		v.add("proxy.backend", "%q is not one of auto, nft and legacy", c.Backend)
	}
	v.between("proxy.masqueradeBit", c.MasqueradeBit, 0, 31)
	v.positive("proxy.syncPeriod", c.SyncPeriod)
	v.prefixes("proxy.clusterCIDRs", c.ClusterCIDRs)
	v.detectLocal(c)
	if slices.Contains(c.NodePortAddresses, NodePortPrimary) {
		if len(c.NodePortAddresses) > 1 {
			v.add("proxy.nodePortAddresses", "%q does not go with ranges", NodePortPrimary)
		}
		return
	}
	v.prefixes("proxy.nodePortAddresses", c.NodePortAddresses)
}

// maxInterface is how long the name of an interface can be.
const maxInterface = 15

func (v *faults) detectLocal(c *Proxy) {
	mode, name := c.DetectLocal.Mode, c.DetectLocal.Interface
	byName := mode == DetectBridgeInterface || mode == DetectInterfaceNamePrefix
	switch {
	case !byName && !slices.Contains([]DetectLocalMode{DetectAuto, DetectClusterCIDR, DetectNodeCIDR, DetectNone}, mode):
		v.add("proxy.detectLocal.mode", "%q is not one of auto, ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix and None", mode)
	case mode == DetectClusterCIDR && len(c.ClusterCIDRs) == 0:
		v.add("proxy.detectLocal.mode", "%s needs proxy.clusterCIDRs", mode)
	case !byName && name != "":
		v.add("proxy.detectLocal.interface", "%q has no meaning in mode %s", name, mode)
	case byName && !isInterface(name):
		v.add("proxy.detectLocal.interface", "%q is no name of an interface, as mode %s needs", name, mode)
	}
}

// isInterface reports whether an interface can have that name, and a rule contain it.
func isInterface(name string) bool {
	if name == "" || len(name) > maxInterface || name == "." || name == ".." {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`/:+!"\`, r)
	})
}

func (v *faults) prefixes(path string, in []string) {
	for i, s := range in {
		if _, err := netip.ParsePrefix(s); err != nil {
			v.add(fmt.Sprintf("%s[%d]", path, i), "%q is not a range of addresses such as 10.244.0.0/16", s)
		}
	}
}

func (v *faults) dns(c *DNS) {
	v.names("dns.domain", strings.TrimSuffix(c.Domain, "."), validation.IsDNS1123Subdomain)
	for i, s := range c.Listen {
		v.ownAddress(fmt.Sprintf("dns.listen[%d]", i), s)
	}
	if ns, name, ok := strings.Cut(c.Service, "/"); !ok || len(validation.IsDNS1123Label(ns)) > 0 || len(validation.IsDNS1035Label(name)) > 0 {
		v.add("dns.service", "%q is not the NAMESPACE/NAME of a Service", c.Service)
	}
	v.between("dns.peerPort", c.PeerPort, 0, 65535)
	v.prefixes("dns.clients", c.Clients)
	v.ttl("dns.ttl", c.TTL.Duration)
	v.outside(c)
	for i, s := range c.Upstreams {
		v.upstream(fmt.Sprintf("dns.upstreams[%d]", i), s, true)
	}
	for domain, servers := range c.StubDomains {
		path := fmt.Sprintf("dns.stubDomains[%s]", domain)
		v.names(path, strings.ToLower(strings.TrimSuffix(domain, ".")), validation.IsDNS1123Subdomain)
		if len(servers) == 0 {
			v.add(path, "names no server")
		}
		for i, s := range servers {
			v.upstream(fmt.Sprintf("%s[%d]", path, i), s, false)
		}
	}
	if !slices.Contains([]PodRecords{PodRecordsDisabled, PodRecordsInsecure, PodRecordsVerified}, c.Pods) {
		v.add("dns.pods", "%q is not one of disabled, insecure and verified", c.Pods)
	}
	if c.AwaitRules.Duration < 0 || c.AwaitRules.Duration > 10*time.Second {
		v.add("dns.awaitRules", "%s is not between 0s and 10s", c.AwaitRules.Duration)
	}
	if c.SearchPath.Enabled && !strings.HasPrefix(c.SearchPath.ResolvConf, "/") {
		v.add("dns.searchPath.resolvConf", "%q is not the path of a file", c.SearchPath.ResolvConf)
	}
}

func (v *faults) ttl(path string, ttl time.Duration) {
	if ttl < 0 || ttl > time.Hour {
		v.add(path, "%s is not between 0s and 1h", ttl)
	}
	if ttl%time.Second != 0 {
		v.add(path, "%s is not a number of seconds", ttl)
	}
}

// outside refuses a zone that the cluster's own names are in, or that is in theirs: one
// question would have two answers.
func (v *faults) outside(c *DNS) {
	o := &c.Outside
	if o.Zone == "" {
		return
	}
	zone, domain := strings.ToLower(strings.TrimSuffix(o.Zone, ".")), strings.ToLower(strings.TrimSuffix(c.Domain, "."))
	v.names("dns.outside.zone", zone, validation.IsDNS1123Subdomain)
	if strings.HasSuffix("."+zone, "."+domain) || strings.HasSuffix("."+domain, "."+zone) {
		v.add("dns.outside.zone", "%q and the cluster's domain %q are within each other", o.Zone, c.Domain)
	}
	v.between("dns.outside.port", o.Port, 1, 65535)
	v.ttl("dns.outside.ttl", o.TTL.Duration)
	for i, s := range o.NameServers {
		v.names(fmt.Sprintf("dns.outside.nameServers[%d]", i), strings.ToLower(strings.TrimSuffix(s, ".")), validation.IsDNS1123Subdomain)
	}
}

// upstream accepts the path of a resolv.conf file, an address, or an address and
// a port. A host name is refused: to resolve it would take a name server.
func (v *faults) upstream(path, s string, files bool) {
	if files && strings.HasPrefix(s, "/") {
		return
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return
	}
	if ap, err := netip.ParseAddrPort(s); err == nil && ap.Port() != 0 {
		return
	}
	what := "an address, or an address and port"
	if files {
		what += ", or the absolute path of a resolv.conf"
	}
	v.add(path, "%s is not %s", strconv.Quote(s), what)
}
