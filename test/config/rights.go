package config

// Right is something that Signpost's account may do.
type Right struct {
	// Role is the ClusterRole, or the Role in kube-system or kube-node-lease, that
	// grants it.
	Role string
	// Group is the API group, empty for the core, and Resource is what the
	// verbs apply to. Name limits them to one object, unless it is empty.
	Group, Resource, Name string
	Verbs                 []string
	// Why says which code needs it.
	Why string
}

// Rights returns all that Signpost may do, and why.
func Rights() []Right {
	const node, leader, election, leases = "signpost-node", "signpost-leader", "signpost-leader-election", "signpost-leader-nodes"
	read := []string{"list", "watch"}
	return []Right{
		{node, "", "services", "", read, "watchcache: addresses, ports and names; loadbalancer: the newest state, at the begin of a term"},
		{node, "", "namespaces", "", read, "watchcache: a name below no namespace does not exist, below one it has no data; loadbalancer: labels by which pools select"},
		{node, "", "nodes", "", read, "watchcache: this node's addresses, pod ranges and zone; endpoints: the zone of an endpoint's node"},
		{node, "discovery.k8s.io", "endpointslices", "", read, "watchcache: where packets go; endpoints: what is there already"},
		{node, "networking.k8s.io", "servicecidrs", "", read, "watchcache: an address of no Service refuses, if it could be one's"},
		{node, "signpost.dev", "loadbalancerpools", "", read, "loadbalancer: where addresses come from; daemon: which of them a node may announce, and at which interfaces"},
		{node, "", "events", "", []string{"create", "patch"}, "daemon: tells a Service's owner what of it cannot be used; patch counts a repetition"},
		{leader, "", "pods", "", read, "endpoints: which pods a selector has, and whether they are ready; watchcache, with dns.searchPath or verified dns.pods: whose address it is"},
		{leader, "", "pods/status", "", []string{"patch"}, "readiness: the condition of the gate signpost.dev/programmed"},
		{leader, "", "endpoints", "", []string{"get", "list", "watch", "create", "update", "delete"}, "endpoints: Endpoints, for those who still read them; mirror: those that somebody else writes"},
		{leader, "discovery.k8s.io", "endpointslices", "", []string{"get", "create", "update", "delete"}, "endpoints, mirror, backends: EndpointSlices; get looks past a watch that lags"},
		{leader, "", "services", "", []string{"get"}, "endpoints, mirror, loadbalancer: makes sure that a Service is gone before its endpoints go"},
		{leader, "", "services/status", "", []string{"patch"}, "readiness: the condition that says why a Service has no endpoints; loadbalancer: addresses, and why there are none; backends: which external backends fail"},
		{leader, "signpost.dev", "loadbalancerpools/status", "", []string{"patch"}, "loadbalancer: how many addresses are used and free, and why a pool gives none"},
		{leader, "", "endpoints/restricted", "", []string{"create"}, "endpoints: addresses of pods, where admission restricts who may write them"},
		{leader, "", "services/finalizers", "", []string{"update"}, "endpoints: slices block the deletion of their Service, where admission restricts who may say so"},
		{leader, "", "endpoints/finalizers", "", []string{"update"}, "mirror: slices block the deletion of the Endpoints that they mirror, where admission restricts who may say so"},
		{leases, "coordination.k8s.io", "leases", "", []string{"get"}, "nodes: whether the control plane hears of a node that others do not"},
		{election, "coordination.k8s.io", "leases", "", []string{"create"}, "term: the first candidate makes the lease; a rule for create cannot name it"},
		{election, "coordination.k8s.io", "leases", "signpost", []string{"get", "list", "watch", "update"}, "term: watches the lease, by name, campaigns for it, renews it and gives it back"},
		{election, "coordination.k8s.io", "leases", "kube-controller-manager", []string{"get"}, "daemon: whether the stock endpoint controllers are alive, beside which it does not write"},
	}
}
