package render

import (
	"net/netip"

	"github.com/signpost-dev/signpost/pkg/proxy/ruleset"
)

// Mode is how packets of pods are told from others, in kube-proxy's words.
type Mode string

// The modes.
const (
	// DetectAuto takes ClusterCIDRs; if there is none of a family, the node's own
	// pod ranges; if there are none either, it is DetectNone.
	DetectAuto Mode = "auto"
	// DetectClusterCIDR: the source is in ClusterCIDRs.
	DetectClusterCIDR Mode = "ClusterCIDR"
	// DetectNodeCIDR: the source is in the pod ranges of the node.
	DetectNodeCIDR Mode = "NodeCIDR"
	// DetectBridgeInterface: the packet comes from the interface DetectInterface.
	DetectBridgeInterface Mode = "BridgeInterface"
	// DetectInterfaceNamePrefix: it comes from an interface whose name starts with
	// DetectInterface.
	DetectInterfaceNamePrefix Mode = "InterfaceNamePrefix"
	// DetectNone: they cannot be told apart. Nothing is masqueraded for its source, and
	// pods get no short cut past the external traffic policy.
	DetectNone Mode = "None"
)

// podSources returns the matches of packets from pods: each is "-s 10.0.0.0/16" or
// "-i cbr0". Empty if they cannot be told apart.
func (f *facts) podSources() []string {
	switch f.DetectLocal {
	case DetectClusterCIDR:
		return sources(f.podRanges)
	case DetectNodeCIDR:
		return sources(f.ofFamily(f.node.PodCIDRs))
	case DetectBridgeInterface:
		return []string{"-i " + f.DetectInterface}
	case DetectInterfaceNamePrefix:
		return []string{"-i " + f.DetectInterface + "+"}
	case DetectNone:
		return nil
	case DetectAuto:
	}
	if len(f.podRanges) > 0 {
		return sources(f.podRanges)
	}
	return sources(f.ofFamily(f.node.PodCIDRs))
}

func sources(ranges []netip.Prefix) []string {
	var out []string
	for _, p := range ranges {
		out = append(out, "-s "+p.String())
	}
	return out
}

// markOffCluster returns the rules that bracket the translation to cluster IPs:
// the mark is on while a packet from off the cluster looks for its Service, and
// taken off again if there is none.
func (f *facts) markOffCluster() (head, tail []ruleset.Rule) {
	switch {
	case f.MasqueradeAll:
		head = []ruleset.Rule{ruleset.Rule(f.setMark())}
	case len(f.pods) == 0:
		return nil, nil
	case len(f.pods) == 1:
		head = []ruleset.Rule{ruleset.Rule("! " + f.pods[0] + " " + f.setMark())}
	default:
		head = []ruleset.Rule{ruleset.Rule("-j " + offCluster)}
	}
	return head, []ruleset.Rule{ruleset.Rule(f.clearMark())}
}

// offClusterRules mark all but packets from pods. It takes a chain because
// one rule can exclude only one range.
func (f *facts) offClusterRules() []ruleset.Rule {
	var out []ruleset.Rule
	for _, p := range f.pods {
		out = append(out, ruleset.Rule(p+" -j RETURN"))
	}
	return append(out, ruleset.Rule(f.setMark()))
}
