//go:build integration

package packets

// probe is a row of the table: a connection, and who must answer. Sorted names of pods;
// in brackets, those that see the node instead of the client.
type probe struct {
	// from is client or a (pods), far (a pod of another node), node, or outside.
	from string
	// to is a Service's cluster IP, or one of its other front ends: NAME/external,
	// NAME/balancer, NAME/node (the node's address), NAME/second (another address of
	// the node), NAME/localhost; or NAME:PORT for
	// another port of a cluster IP, and nobody for a cluster IP that no Service has.
	to   string
	want string
}

const (
	refused = "refused"
	// closed: the node itself says so, as it does for a port that nobody listens at.
	closed = "closed"
	// silence: nobody answers, and nobody says so.
	silence = "silence"
)

func probes() []probe {
	return []probe{
		{"client", "web", "a b c"},
		{"a", "web", "(a) b c"},
		{"node", "web", "(a) (b) (c)"},
		{"outside", "web", "(a) (b) (c)"},
		{"far", "web", "a b c"},
		{"client", "web:81", refused},
		{"client", "nobody", refused},
		{"client", "empty", refused},
		{"node", "empty", refused},
		{"outside", "empty", refused},
		{"far", "empty", refused},
		{"a", "self", "(a)"},
		{"client", "self", "a"},
		{"client", "unready", "a"},
		{"client", "leaving", "a"},
		{"client", "near", "a"},
		{"client", "nohint", "a b"},
		{"client", "nearleaving", "a b"},
		{"client", "nearest", "a"},
		{"client", "nearer", "a"},
		{"client", "dying", refused},
		{"client", "twice", "b c"},
		{"client", "inside", "a"},
		{"node", "inside", "(a)"},
		{"far", "inside", "a"},
		{"client", "insideaway", silence},
		{"node", "insideaway", silence},
		{"client", "insideleaving", "a"},
		{"client", "insideempty", refused},
		{"client", "sticky", "one of a b c"},
		{"far", "sticky", "one of a b c"},
		{"node", "sticky", "one of (a) (b) (c)"},
		{"outside", "sticky/node", "one of (a) (b) (c)"},

		{"client", "port/node", "(a) (b) (c)"},
		{"node", "port/node", "(a) (b) (c)"},
		{"node", "port/localhost", "(a) (b) (c)"},
		{"outside", "port/node", "(a) (b) (c)"},
		{"far", "port/node", "(a) (b) (c)"},
		{"outside", "port/second", "(a) (b) (c)"},
		{"node", "port/second", "(a) (b) (c)"},
		{"node", "portempty/localhost", refused},
		{"node", "portempty/node", refused},
		{"client", "portempty/node", refused},
		{"outside", "portempty/node", refused},
		{"client", "portlocal/node", "a b c"},
		{"node", "portlocal/node", "(a) (b) (c)"},
		{"outside", "portlocal/node", "a"},
		{"far", "portlocal/node", "a b c"},
		{"outside", "portlocal/second", "a"},
		{"outside", "portlocal", "(a) (b) (c)"},
		{"client", "portaway/node", "b"},
		{"outside", "portaway/node", silence},
		{"outside", "portleaving/node", "a"},
		{"client", "portleaving/node", "b"},
		{"outside", "portboth/node", "a"},
		{"client", "portboth/node", "a b c"},
		{"client", "portboth", "a"},

		{"client", "external/external", "(a) (b) (c)"},
		{"outside", "external/external", "(a) (b) (c)"},

		{"node", "external/external", "(a) (b) (c)"},
		{"far", "external/external", "(a) (b) (c)"},
		{"outside", "externalempty/external", refused},
		{"client", "externalempty/external", refused},
		{"node", "externalempty/external", refused},
		{"outside", "externalaway/external", silence},
		{"client", "externalaway/external", "b"},
		{"node", "externalaway/external", "(b)"},

		{"client", "balanced/balancer", "(a) (b) (c)"},
		{"node", "balanced/balancer", "(a) (b) (c)"},
		{"outside", "balanced/balancer", "(a) (b) (c)"},
		{"outside", "ranged/balancer", "(a) (b) (c)"},
		{"client", "ranged/balancer", silence},
		{"client", "ranged/node", "(a) (b) (c)"},
		{"node", "ranged/balancer", "(a) (b) (c)"},
		{"far", "ranged/balancer", silence},
		{"node", "closed/balancer", silence},
		{"outside", "closed/balancer", silence},
		{"outside", "closed/node", "(a) (b) (c)"},
		{"outside", "proxied/balancer", silence},
		{"client", "balancedlocal/balancer", "a b c"},
		{"outside", "balancedlocal/balancer", "a"},
		{"far", "balancedlocal/balancer", "a b c"},
		{"outside", "balancedaway/balancer", silence},
		{"client", "balancedaway/balancer", "b c"},
		{"outside", "balancedleaving/balancer", "a"},
		{"outside", "balancedempty/balancer", refused},
		{"client", "balancedempty/balancer", refused},
		{"outside", "rangedempty/balancer", refused},
		{"outside", "closedempty/balancer", refused},
		{"client", "rangedpods/balancer", "(a) (b) (c)"},
		{"a", "rangedpods/balancer", silence},
		{"far", "rangedpods/balancer", "(a) (b) (c)"},
		{"outside", "rangedpods/balancer", silence},

		{"client", "foreign", silence},
	}
}
