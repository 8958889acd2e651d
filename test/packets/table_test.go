//go:build integration

package packets

// probe is a row of the table: a connection, and who must answer. Sorted names of pods;
// in brackets, those that see the node instead of the client.
type probe struct {
	// from is client or a (pods), node, or outside.
	from string
	// to is a Service's cluster IP, or one of its other front ends: NAME/external,
	// NAME/balancer, NAME/node (the node's address), NAME/localhost; or NAME:PORT for
	// another port of a cluster IP, and nobody for a cluster IP that no Service has.
	to   string
	want string
}

const (
	refused = "refused"
	// silence: nobody answers, and nobody says so.
	silence = "silence"
)

func probes() []probe {
	return []probe{
		{"client", "web", "a b c"},
		{"a", "web", "(a) b c"},
		{"node", "web", "(a) (b) (c)"},
		{"outside", "web", "(a) (b) (c)"},
		{"client", "web:81", refused},
		{"client", "nobody", refused},
		{"client", "empty", refused},
		{"node", "empty", refused},
		{"outside", "empty", refused},
		{"a", "self", "(a)"},
		{"client", "unready", "a"},
		{"client", "leaving", "a"},
		{"client", "near", "a"},
		{"client", "nohint", "a b"},
		{"client", "inside", "a"},
		{"client", "insideaway", silence},
		{"client", "sticky", "one of a b c"},

		{"client", "port/node", "(a) (b) (c)"},
		{"node", "port/node", "(a) (b) (c)"},
		{"node", "port/localhost", "(a) (b) (c)"},
		{"outside", "port/node", "(a) (b) (c)"},
		{"client", "portempty/node", refused},
		{"outside", "portempty/node", refused},
		{"client", "portlocal/node", "a b c"},
		{"node", "portlocal/node", "(a) (b) (c)"},
		{"outside", "portlocal/node", "a"},
		{"outside", "portlocal", "(a) (b) (c)"},
		{"client", "portaway/node", "b"},
		{"outside", "portaway/node", silence},
		{"outside", "portleaving/node", "a"},
		{"client", "portleaving/node", "b"},

		{"client", "external/external", "(a) (b) (c)"},
		{"outside", "external/external", "(a) (b) (c)"},

		{"client", "balanced/balancer", "(a) (b) (c)"},
		{"node", "balanced/balancer", "(a) (b) (c)"},
		{"outside", "balanced/balancer", "(a) (b) (c)"},
		{"outside", "ranged/balancer", "(a) (b) (c)"},
		{"client", "ranged/balancer", silence},
		{"client", "ranged/node", "(a) (b) (c)"},
		{"outside", "closed/balancer", silence},
		{"outside", "closed/node", "(a) (b) (c)"},
		{"outside", "proxied/balancer", silence},
		{"client", "balancedlocal/balancer", "a b c"},
		{"outside", "balancedlocal/balancer", "a"},

		{"client", "foreign", silence},
	}
}
