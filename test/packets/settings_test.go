//go:build integration

package packets

import "sigs.k8s.io/controller-runtime/pkg/client"

// setting is a configuration other than the usual one, and what it changes.
type setting struct {
	name string
	// ours are lines of the configuration's proxy part, theirs flags of kube-proxy.
	ours   string
	theirs []string
	// probes: a row that is there twice is asked by TCP and by UDP in each family.
	probes []probe
	// more is what else there is to look at; nil for nothing.
	more func(*rig, client.Client)
}

// usual is what most of the table is for.
func usual() setting {
	return setting{
		name: "usual", ours: "clusterCIDRs: [10.0.0.0/16, \"fd02::/48\"]", theirs: []string{"--cluster-cidr=10.0.0.0/16,fd02::/48"},
		probes: probes(),
		more: func(r *rig, c client.Client) {
			r.checkSCTP()
			r.checkHealth()
			r.checkNode(c)
			r.checkRanges(c)
		},
	}
}

// others are run by all of ours, and by kube-proxy in its iptables mode.
func others() []setting {
	return []setting{
		{
			name: "some addresses, and pods by their links",
			ours: "nodePortAddresses: [192.168.1.0/24, \"fd01::/64\"], detectLocal: {mode: InterfaceNamePrefix, interface: pod}",
			theirs: []string{
				"--nodeport-addresses=192.168.1.0/24,fd01::/64", "--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=pod",
			},
			probes: []probe{
				{"client", "web", "a b c"},
				{"outside", "web", "(a) (b) (c)"},
				{"far", "web", "(a) (b) (c)"},
				{"far", "web", "(a) (b) (c)"},
				{"far", "portlocal/node", "a"},
				{"client", "portlocal/node", "a b c"},
				{"outside", "port/node", "(a) (b) (c)"},
				{"outside", "port/second", closed},
				{"client", "port/second", closed},
				{"node", "port/second", closed},
				{"node", "port/localhost", closed},
			},
			more: func(r *rig, _ client.Client) { r.checkSecondIsClosed() },
		},
		{
			name:   "all masqueraded, pods by the node's range, no node ports on localhost",
			ours:   "masqueradeAll: true, localhostNodePorts: false, detectLocal: {mode: NodeCIDR}",
			theirs: []string{"--masquerade-all", "--iptables-localhost-nodeports=false", "--detect-local-mode=NodeCIDR"},
			probes: []probe{
				{"client", "web", "(a) (b) (c)"},
				{"client", "web", "(a) (b) (c)"},
				{"outside", "web", "(a) (b) (c)"},
				{"far", "web", "(a) (b) (c)"},
				{"far", "web", "(a) (b) (c)"},
				{"client", "inside", "(a)"},
				{"outside", "portlocal/node", "a"},
				{"client", "portlocal/node", "a b c"},
				{"far", "portlocal/node", "a"},
				{"outside", "balancedlocal/balancer", "a"},
				{"outside", "port/node", "(a) (b) (c)"},
				{"node", "port/node", "(a) (b) (c)"},
				{"node", "port/localhost", closed},
			},
		},
	}
}
