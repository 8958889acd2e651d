package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netutils "k8s.io/utils/net"

	"github.com/signpost-dev/signpost/pkg/api/v1alpha1"
)

// traffic translates what a Service says of packets beyond its cluster IPs.
func (t *translation) traffic(svc *corev1.Service) {
	t.externalIPs(svc)
	t.loadBalancer(svc)
	t.affinity(svc)
	policy := svc.Spec.InternalTrafficPolicy
	t.out.InternalLocal = policy != nil && *policy == corev1.ServiceInternalTrafficPolicyLocal
	t.out.ExternalLocal = reachedFromOutside(svc) && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && t.out.ExternalLocal {
		port, ok := portNumber(svc.Spec.HealthCheckNodePort)
		if !ok {
			t.problem("spec.healthCheckNodePort", "%d is not between 1 and 65535: load balancers cannot find out where the endpoints are", svc.Spec.HealthCheckNodePort)
		}
		t.out.HealthCheckNodePort = port
	}
}

func reachedFromOutside(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer || svc.Spec.Type == corev1.ServiceTypeNodePort || len(svc.Spec.ExternalIPs) > 0
}

func (t *translation) externalIPs(svc *corev1.Service) {
	for i, ip := range svc.Spec.ExternalIPs {
		field := fmt.Sprintf("spec.externalIPs[%d]", i)
		t.out.ExternalIPs = t.appendAddr(t.out.ExternalIPs, field, ip)
	}
}

// appendAddr appends an address once.
func (t *translation) appendAddr(to []netip.Addr, field, ip string) []netip.Addr {
	addr, ok := parseAddr(ip)
	if !ok {
		t.problem(field, "%q is no IP address", ip)
		return to
	}
	if slices.Contains(to, addr) {
		return to
	}
	return append(to, addr)
}

// loadBalancer leaves out addresses at which a load balancer ends connections
// itself. Where nothing can be read of who may use the addresses, nobody may:
// they are left out as a whole.
func (t *translation) loadBalancer(svc *corev1.Service) {
	var addrs []netip.Addr
	for i, ing := range svc.Status.LoadBalancer.Ingress {
		if ing.IP == "" || ing.IPMode != nil && *ing.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		addrs = t.appendAddr(addrs, fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), ing.IP)
	}
	ranges, bad := t.sourceRanges(svc)
	if len(addrs) == 0 {
		return
	}
	if bad && len(ranges) == 0 {
		t.problem("spec.loadBalancerSourceRanges", "allows nobody, as none of it can be read")
		return
	}
	t.out.LoadBalancerIPs, t.out.SourceRanges = addrs, withoutOpenFamilies(ranges)
	t.out.Announced = svc.Spec.Type == corev1.ServiceTypeLoadBalancer && slices.ContainsFunc(svc.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionAddressAssigned && c.Status == metav1.ConditionTrue
	})
}

// sourceRanges reads ranges as the API server lets them pass: with blanks around
// them, and leading zeros.
func (t *translation) sourceRanges(svc *corev1.Service) (ranges []netip.Prefix, bad bool) {
	for i, text := range svc.Spec.LoadBalancerSourceRanges {
		p, ok := parsePrefix(text)
		if !ok {
			t.problem(fmt.Sprintf("spec.loadBalancerSourceRanges[%d]", i), "%q is no range of addresses", text)
			bad = true
			continue
		}
		ranges = append(ranges, p)
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	return slices.Compact(ranges), bad
}

// withoutOpenFamilies takes out the ranges of a family that has one for all addresses.
func withoutOpenFamilies(ranges []netip.Prefix) []netip.Prefix {
	all := slices.DeleteFunc(slices.Clone(ranges), func(p netip.Prefix) bool { return p.Bits() > 0 })
	return slices.DeleteFunc(ranges, func(p netip.Prefix) bool {
		return slices.ContainsFunc(all, func(a netip.Prefix) bool { return a.Addr().Is4() == p.Addr().Is4() })
	})
}

// The API server's default and limit.
const (
	defaultAffinity = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second
	maxAffinity     = 24 * time.Hour
)

func (t *translation) affinity(svc *corev1.Service) {
	switch svc.Spec.SessionAffinity {
	case corev1.ServiceAffinityClientIP:
	case corev1.ServiceAffinityNone, "":
		return
	default:
		t.problem("spec.sessionAffinity", "%q is not one of ClientIP and None", svc.Spec.SessionAffinity)
		return
	}
	t.out.AffinityTimeout = defaultAffinity
	c := svc.Spec.SessionAffinityConfig
	if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
		return
	}
	timeout := time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	if timeout <= 0 || timeout > maxAffinity {
		t.problem("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "%d is not between 1 and 86400, %d is taken",
			*c.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds)
		return
	}
	t.out.AffinityTimeout = timeout
}

// parsePrefix reads a range as parseAddr does an address, and clears the bits that do
// not count.
func parsePrefix(s string) (netip.Prefix, bool) {
	_, ipnet, err := netutils.ParseCIDRSloppy(strings.TrimSpace(s))
	if err != nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(ipnet.IP)
	ones, _ := ipnet.Mask.Size()
	if addr.Is4In6() {
		addr, ones = addr.Unmap(), max(0, ones-96)
	}
	return netip.PrefixFrom(addr, ones).Masked(), ok
}
