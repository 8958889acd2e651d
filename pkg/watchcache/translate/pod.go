package translate

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/signpost-dev/signpost/pkg/model"
)

// Pod returns what names need to know of a pod, and its addresses; nil for one that
// has ended or has no address yet.
func Pod(p *corev1.Pod) (*model.Pod, []netip.Addr) {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	var addrs []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && !slices.Contains(addrs, a.Unmap()) {
			addrs = append(addrs, a.Unmap())
		}
	}
	if len(addrs) == 0 {
		return nil, nil
	}
	out := &model.Pod{
		Name:        model.Name{Namespace: p.Namespace, Name: p.Name},
		UID:         string(p.UID),
		HostNetwork: p.Spec.HostNetwork,
		DNSPolicy:   string(p.Spec.DNSPolicy),
	}
	if c := p.Spec.DNSConfig; c != nil {
		out.Searches = slices.Clone(c.Searches)
		for _, o := range c.Options {
			option := model.ResolverOption{Name: o.Name}
			if o.Value != nil {
				option.Value = *o.Value
			}
			out.Options = append(out.Options, option)
		}
	}
	return out, addrs
}
