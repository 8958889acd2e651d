package v1alpha1

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The type that a configuration file must name.
const (
	APIVersion = "config.signpost.dev/v1alpha1"
	Kind       = "SignpostConfiguration"
)

// SignpostConfiguration is the content of the configuration file.
type SignpostConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// NodeName is the name of the Node object of this machine. Default: the
	// environment's NODE_NAME, else the host name.
	NodeName         string           `json:"nodeName"`
	ClientConnection ClientConnection `json:"clientConnection"`
	LeaderElection   LeaderElection   `json:"leaderElection"`
	Controllers      Controllers      `json:"controllers"`
	Proxy            Proxy            `json:"proxy"`
	DNS              DNS              `json:"dns"`
	Peers            Peers            `json:"peers"`
	Announce         Announce         `json:"announce"`
	Health           Health           `json:"health"`
	Metrics          Metrics          `json:"metrics"`
}

// ClientConnection says how to reach the API server.
type ClientConnection struct {
	// Kubeconfig is the path of a kubeconfig file. Default: the account that
	// the pod runs as.
	Kubeconfig string `json:"kubeconfig"`
	// Server replaces the URL of the API server. It must be an address that a
	// node reaches without Services, because Signpost is what makes Services
	// work. Default: the environment's SIGNPOST_API_SERVER, else what the
	// kubeconfig or the pod's environment says.
	Server string `json:"server"`
	// QPS limits the requests per second, after the first Burst. Watches do not
	// count. 0 or less is no limit: the server's priority and fairness decides how
	// much it takes of whom, and knows what else it has to do.
	QPS   float32 `json:"qps"`
	Burst int     `json:"burst"`
}

// LeaderElection says how the node that runs the controllers is found.
type LeaderElection struct {
	// LeaderElect false makes this node never run the controllers.
	LeaderElect       bool            `json:"leaderElect"`
	ResourceName      string          `json:"resourceName"`
	ResourceNamespace string          `json:"resourceNamespace"`
	LeaseDuration     metav1.Duration `json:"leaseDuration"`
	RenewDeadline     metav1.Duration `json:"renewDeadline"`
	RetryPeriod       metav1.Duration `json:"retryPeriod"`
	// Candidates is how many nodes try to lead at once when nobody does, 1 to
	// 100; if none of them succeeds, more try. All others only watch.
	Candidates int `json:"candidates"`
	// WarmStandby has the node that is next in line watch the pods before it
	// leads, so that it need not list them when it does.
	WarmStandby bool `json:"warmStandby"`
}

// Controllers configures what the leader does. Each controller runs alone if the
// others are off.
type Controllers struct {
	Endpoints              EndpointsController              `json:"endpoints"`
	EndpointSlice          EndpointSliceController          `json:"endpointSlice"`
	EndpointSliceMirroring EndpointSliceMirroringController `json:"endpointSliceMirroring"`
	LoadBalancer           LoadBalancerController           `json:"loadBalancer"`
	ExternalBackends       ExternalBackendsController       `json:"externalBackends"`
	Readiness              ReadinessController              `json:"readiness"`
	// NodeFailure says when the endpoints of a node that is dead are taken out.
	NodeFailure NodeFailure `json:"nodeFailure"`
	// Concurrency is how many Services are worked on at once, 1 to 100.
	Concurrency int `json:"concurrency"`
}

// NodeFailure is how much evidence it takes for a node to be dead, beyond that
// other nodes hear nothing of it for 3 s. It needs Peers and DNS, by which the nodes
// find each other. If more than a third of the nodes are silent at once, nothing
// is taken out.
type NodeFailure string

// The choices.
const (
	// NodeFailureOff waits until the node controller marks the pods, after 50 s.
	NodeFailureOff NodeFailure = "off"
	// NodeFailureConservative wants another node to say the same, and a Lease of
	// the node that is older than 20 s: half of what it is good for.
	NodeFailureConservative NodeFailure = "conservative"
	// NodeFailureFast wants another node to say the same, and a Lease that has not
	// been renewed since; or, of no other node, one that is older than 11 s. A node
	// whose network is away, or whose daemon hangs, is out until its Lease is
	// renewed: 10 s at most.
	NodeFailureFast NodeFailure = "fast"
)

// UnmarshalJSON also takes false, which is what YAML makes of off without quotes.
func (f *NodeFailure) UnmarshalJSON(b []byte) error {
	if string(b) == "false" {
		*f = NodeFailureOff
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*f = NodeFailure(s)
	return nil
}

// EndpointsController configures the controller of Endpoints objects.
type EndpointsController struct {
	Enabled bool `json:"enabled"`
}

// EndpointSliceController configures the controller of EndpointSlices.
type EndpointSliceController struct {
	Enabled bool `json:"enabled"`
	// MaxEndpointsPerSlice is 1 to 1000.
	MaxEndpointsPerSlice int `json:"maxEndpointsPerSlice"`
	// BatchPeriod is how long a change of a pod waits at least for others, so that
	// several make one write. With 0 an idle controller writes at once, and one
	// under load lets changes of one Service wait for each other, at most 1s. A
	// change that takes traffic from a pod never waits.
	BatchPeriod metav1.Duration `json:"batchPeriod"`
}

// EndpointSliceMirroringController configures the controller that publishes as
// EndpointSlices what somebody writes into the Endpoints of a Service without
// selector.
type EndpointSliceMirroringController struct {
	Enabled bool `json:"enabled"`
	// MaxEndpointsPerSubset is how many addresses of one subset of an Endpoints are
	// published at most, 1 to 1000.
	MaxEndpointsPerSubset int `json:"maxEndpointsPerSubset"`
}

// LoadBalancerController configures the controller that gives Services of type
// LoadBalancer their addresses, from the LoadBalancerPools of the cluster. Without
// that kind in the cluster it does nothing.
type LoadBalancerController struct {
	Enabled bool `json:"enabled"`
	// Default also takes the Services without a spec.loadBalancerClass. It must be
	// false where something else in the cluster gives these their addresses, such as
	// the controllers of a cloud. Services of the class signpost.dev/l2 are taken
	// always, those of other classes never.
	Default bool `json:"default"`
}

// ExternalBackendsController configures the controller that checks the backends of
// Services without selector, and resolves their names, as annotations of the Service
// ask for. It is the same on all nodes, as they check for each other. Turned off, it
// takes back what it has published: then all backends count that somebody has written.
type ExternalBackendsController struct {
	Enabled bool `json:"enabled"`
}

// ReadinessController configures what is said of Services without endpoints, and
// to pods that wait for the nodes. It works if Endpoints or EndpointSlice does.
type ReadinessController struct {
	// Enabled false says nothing at all, and turns Gate off.
	Enabled bool `json:"enabled"`
	// ServiceConditions writes the condition signpost.dev/EndpointsReady to the
	// status of a Service that has been without usable endpoints for 5 s, and when
	// it has some again. A Service that never was gets none, so that this costs
	// nothing where all is well. The Event NoEndpoints does not depend on it.
	ServiceConditions bool          `json:"serviceConditions"`
	Gate              ReadinessGate `json:"gate"`
}

// ReadinessGate configures the gate signpost.dev/programmed: a pod that lists it
// in its readinessGates becomes ready only when the nodes send to it. It works if
// EndpointSlice does.
type ReadinessGate struct {
	// Enabled false opens no gate: a pod that lists it does not become ready.
	Enabled bool `json:"enabled"`
	// Nodes is how many of the nodes that run Signpost and are alive have to send to
	// the pod: a share from 1% to 100%, rounded up, or a number of at least 1, which
	// means all if there are fewer.
	Nodes intstr.IntOrString `json:"nodes"`
	// Timeout is how long a pod waits at most, so that a node that hangs does not
	// stop a roll-out for ever. Then the gate opens and says so.
	Timeout metav1.Duration `json:"timeout"`
}

// Wanted says how many of a number of nodes Nodes means: at least 1. The
// configuration must be valid.
func (g *ReadinessGate) Wanted(nodes int) int {
	n, err := intstr.GetScaledValueFromIntOrPercent(&g.Nodes, nodes, true)
	if err != nil {
		return max(1, nodes)
	}
	return max(1, min(n, nodes))
}

// Backend is a choice among the two programs called iptables.
type Backend string

// The backends.
const (
	BackendAuto   Backend = "auto"
	BackendNFT    Backend = "nft"
	BackendLegacy Backend = "legacy"
)

// DetectLocalMode is a way to tell packets of pods from others.
type DetectLocalMode string

// The modes, in kube-proxy's words.
const (
	// DetectAuto is ClusterCIDR if there are clusterCIDRs of the family, else NodeCIDR if
	// the node has such a range, else None.
	DetectAuto                DetectLocalMode = "auto"
	DetectClusterCIDR         DetectLocalMode = "ClusterCIDR"
	DetectNodeCIDR            DetectLocalMode = "NodeCIDR"
	DetectBridgeInterface     DetectLocalMode = "BridgeInterface"
	DetectInterfaceNamePrefix DetectLocalMode = "InterfaceNamePrefix"
	DetectNone                DetectLocalMode = "None"
)

// DetectLocal says how packets of pods are told from others: others to a
// ClusterIP are masqueraded, and pods take a short cut past the external
// traffic policy Local.
type DetectLocal struct {
	Mode DetectLocalMode `json:"mode"`
	// Interface is the name of the pods' bridge, or what the names of the pods'
	// interfaces on the node start with, for the modes that go by it.
	Interface string `json:"interface"`
}

// NodePortPrimary among the NodePortAddresses is the node's first address of each family.
const NodePortPrimary = "primary"

// Proxy configures the programming of packets.
type Proxy struct {
	Enabled bool `json:"enabled"`
	// Backend auto takes the program that the node's rules are in already.
	Backend Backend `json:"backend"`
	// ClusterCIDRs are the ranges of all pods. Traffic
	// to a ClusterIP from elsewhere is masqueraded. Default: from outside of
	// the node's own pod CIDRs, if it has any.
	ClusterCIDRs  []string    `json:"clusterCIDRs"`
	DetectLocal   DetectLocal `json:"detectLocal"`
	MasqueradeAll bool        `json:"masqueradeAll"`
	// MasqueradeBit is the bit of the packet mark, 0 to 31, that asks for
	// masquerading.
	MasqueradeBit int `json:"masqueradeBit"`
	// NodePortAddresses are the ranges of node addresses that answer at node
	// ports, or only "primary". Default: all.
	NodePortAddresses []string `json:"nodePortAddresses"`
	// LocalhostNodePorts lets 127.0.0.1 answer at node ports, IPv4 only.
	LocalhostNodePorts bool `json:"localhostNodePorts"`
	// SyncPeriod is how often the rules are compared with what they should be
	// without a sign that somebody else has written to them. Where there is one, it is
	// seen within a second. Changes of Services are applied at once.
	SyncPeriod metav1.Duration `json:"syncPeriod"`
}

// PodRecords says what names of the form 10-0-0-1.NAMESPACE.pod.DOMAIN get.
type PodRecords string

// The kinds of pod records.
const (
	PodRecordsDisabled PodRecords = "disabled"
	PodRecordsInsecure PodRecords = "insecure"
	PodRecordsVerified PodRecords = "verified"
)

// DNS configures the name server.
type DNS struct {
	Enabled bool `json:"enabled"`
	// Domain is the cluster's domain.
	Domain string `json:"domain"`
	// Listen are the addresses, host:port, to answer at. Default: the cluster
	// IPs of Service and 169.254.20.10, port 53, on the node itself.
	Listen []string `json:"listen"`
	// Service is the namespace/name of the DNS Service.
	Service string `json:"service"`
	// PeerPort is the port on the node's own addresses at which queries are
	// answered that other nodes' rules send here while their own server is
	// away: the target port of Service. 0 turns it off.
	PeerPort int `json:"peerPort"`
	// Clients are the ranges of addresses whose queries are answered, beside the
	// node's own addresses and its pods': those of all pods and nodes. If it is
	// empty they are the private addresses, and those that are near to the node's.
	Clients []string        `json:"clients"`
	TTL     metav1.Duration `json:"ttl"`
	// Upstreams are resolv.conf files or host[:port] of servers for all other
	// names, in the order in which they are asked. A host is an IP address. Files
	// are read again when they change.
	Upstreams []string `json:"upstreams"`
	// StubDomains maps a domain to the servers, host[:port], for names in it. Of
	// several that fit, the longest counts.
	StubDomains map[string][]string `json:"stubDomains"`
	Pods        PodRecords          `json:"pods"`
	// AwaitRules is how long the name of a Service is held back at most while this
	// node's rules do not know its cluster IP yet, 0s to 10s. It only applies with
	// the proxy.
	AwaitRules metav1.Duration `json:"awaitRules"`
	SearchPath SearchPath      `json:"searchPath"`
	// NearFirst has the addresses of a headless Service begin with those of
	// endpoints on the node that is asked, and then of those in its zone.
	NearFirst bool `json:"nearFirst"`
	// QueryLog has each query logged, with the pod of this node that asks. It takes
	// several times the processor time.
	QueryLog bool `json:"queryLog"`
	// Outside are names for the world outside of the cluster.
	Outside Outside `json:"outside"`
}

// Outside says under which names the world outside of the cluster finds its load
// balancers: SERVICE.NAMESPACE.Zone.
type Outside struct {
	// Zone is the domain that is delegated to the nodes. Nothing is answered if it is
	// empty.
	Zone string `json:"zone"`
	// Port is where it is answered, by UDP and TCP at all addresses of the nodes: to
	// everybody who asks, and for nothing else.
	Port int             `json:"port"`
	TTL  metav1.Duration `json:"ttl"`
	// NameServers are the names under which the zone is delegated to the nodes, for its SOA
	// and NS records.
	NameServers []string `json:"nameServers"`
}

// SearchPath configures whether the search lists of this node's pods are walked by
// the server, so that a pod asks once for www.example.com and not once for each
// domain of its list.
type SearchPath struct {
	// Enabled makes the node watch its own pods.
	Enabled bool `json:"enabled"`
	// ResolvConf is the resolv.conf file that the kubelet has, or a copy of it: its
	// search list is part of that of pods.
	ResolvConf string `json:"resolvConf"`
}

// Peers configures how the daemons of the nodes talk to each other.
type Peers struct {
	// Enabled false makes this node neither answer nor ask.
	Enabled bool `json:"enabled"`
	// Port is the UDP port on the nodes' own addresses, 1 to 65535, the same on
	// all nodes.
	Port int `json:"port"`
}

// Announce configures how load balancer addresses from LoadBalancerPools are
// announced to the nodes' network, by ARP and NDP. It needs DNS, by which the nodes
// find each other. Without such addresses it does nothing.
type Announce struct {
	// Enabled false makes this node answer for no address, and have no vote on which
	// one does.
	Enabled bool `json:"enabled"`
	// Port is the UDP port on the nodes' own addresses, 1 to 65535, the same on
	// all nodes, and not that of Peers.
	Port int `json:"port"`
}

// Health configures the server of /livez and /readyz.
type Health struct {
	// BindAddress is host:port.
	BindAddress string `json:"bindAddress"`
}

// Metrics configures the server of /metrics.
type Metrics struct {
	// BindAddress is host:port; empty turns it off.
	BindAddress string `json:"bindAddress"`
}
