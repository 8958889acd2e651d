package v1alpha1

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const header = "apiVersion: config.signpost.dev/v1alpha1\nkind: SignpostConfiguration\n"

func TestEmptyFileIsTheDefault(t *testing.T) {
	got, err := Parse([]byte(header))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDefaultsSurviveAFile(t *testing.T) {
	text, err := Default().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(text)
	if err != nil {
		t.Fatalf("the default file is not accepted: %v\n%s", err, text)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFileOverlaysDefaults(t *testing.T) {
	got, err := Parse([]byte(header + `
dns:
  ttl: 30s
  upstreams: [10.0.0.53, "[fd00::53]:5353"]
proxy: {backend: legacy}
controllers: {endpoints: {enabled: false}, loadBalancer: {default: false}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.DNS.TTL.Duration = 30 * time.Second
	want.DNS.Upstreams = []string{"10.0.0.53", "[fd00::53]:5353"}
	want.Proxy.Backend = BackendLegacy
	want.Controllers.Endpoints.Enabled = false
	want.Controllers.LoadBalancer.Default = false
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestOffWithoutQuotes: YAML takes the word for a boolean.
func TestOffWithoutQuotes(t *testing.T) {
	for _, off := range []string{"off", `"off"`} {
		got, err := Parse([]byte(header + "controllers: {nodeFailure: " + off + "}"))
		if err != nil || got.Controllers.NodeFailure != NodeFailureOff {
			t.Errorf("%s is read as %q, %v", off, got.Controllers.NodeFailure, err)
		}
	}
}

func TestEveryFaultIsNamedWithItsPath(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"no type", "{}", `apiVersion: ""`},
		{"other type", "apiVersion: v1\nkind: ConfigMap", `kind: "ConfigMap"`},
		{"unknown field", header + "dns: {tttl: 3s}", `unknown field "dns.tttl"`},
		{"wrong case", header + "DNS: {}", `unknown field "DNS"`},
		{"twice", header + "nodeName: a\nnodeName: b", "nodeName"},
		{"wrong type", header + "dns: {ttl: [1]}", "dns.ttl"},
		{"no yaml", header + "\t", "no valid YAML"},
		{"burst", header + "clientConnection: {qps: 1, burst: 0}", "clientConnection.burst: 0"},
		{"server", header + "clientConnection: {server: '10.0.0.1:6443'}", `clientConnection.server: "10.0.0.1:6443"`},
		{"lease", header + "leaderElection: {leaseDuration: 5s}", "leaderElection.leaseDuration: 5s"},
		{"renew", header + "leaderElection: {retryPeriod: 9s}", "leaderElection.renewDeadline: 10s"},
		{"candidates", header + "leaderElection: {candidates: 0}", "leaderElection.candidates: 0"},
		{"lease name", header + "leaderElection: {resourceName: A_B}", `leaderElection.resourceName: "A_B"`},
		{"ttl of no seconds", header + "dns: {ttl: 1500ms}", `dns.ttl: 1.5s is not a number of seconds`},
		{"listen anywhere", header + "dns: {listen: ['0.0.0.0:53']}", `dns.listen[0]: "0.0.0.0:53"`},
		{"listen at any port", header + "dns: {listen: ['10.0.0.1:0']}", `dns.listen[0]: "10.0.0.1:0"`},
		{"listen in a zone", header + "dns: {listen: ['[fe80::1%eth0]:53']}", `dns.listen[0]: "[fe80::1%eth0]:53"`},
		{"lease namespace", header + "leaderElection: {resourceNamespace: ''}", `leaderElection.resourceNamespace: ""`},
		{"concurrency", header + "controllers: {concurrency: 0}", "controllers.concurrency: 0"},
		{"slice size", header + "controllers: {endpointSlice: {maxEndpointsPerSlice: 1001}}", "controllers.endpointSlice.maxEndpointsPerSlice: 1001"},
		{"mirrored addresses", header + "controllers: {endpointSliceMirroring: {maxEndpointsPerSubset: 0}}", "controllers.endpointSliceMirroring.maxEndpointsPerSubset: 0"},
		{"batch", header + "controllers: {endpointSlice: {batchPeriod: -1s}}", "controllers.endpointSlice.batchPeriod: -1s"},
		{"gate share", header + "controllers: {readiness: {gate: {nodes: 101%}}}", `controllers.readiness.gate.nodes: "101%"`},
		{"gate word", header + "controllers: {readiness: {gate: {nodes: all}}}", `controllers.readiness.gate.nodes: "all"`},
		{"gate number as text", header + "controllers: {readiness: {gate: {nodes: '3'}}}", `controllers.readiness.gate.nodes: "3"`},
		{"gate number", header + "controllers: {readiness: {gate: {nodes: 0}}}", "controllers.readiness.gate.nodes: 0"},
		{"gate timeout", header + "controllers: {readiness: {gate: {timeout: 0s}}}", "controllers.readiness.gate.timeout: 0s"},
		{"load balancer", header + "controllers: {loadBalancer: {class: x}}", `unknown field "controllers.loadBalancer.class"`},
		{"external backends", header + "controllers: {externalBackends: {interval: 1s}}", `unknown field "controllers.externalBackends.interval"`},
		{"node failure", header + "controllers: {nodeFailure: slow}", `controllers.nodeFailure: "slow"`},
		{"node failure on", header + "controllers: {nodeFailure: true}", "controllers.nodeFailure"},
		{"announce", header + "announce: {port: 65536}", "announce.port: 65536 is not between"},
		{"announce at the port of peers", header + "announce: {port: 10263}", "announce.port: 10263 is that of peers"},
		{"peers", header + "peers: {port: 0}", "peers.port: 0"},
		{"backend", header + "proxy: {backend: ebpf}", `proxy.backend: "ebpf"`},
		{"bit", header + "proxy: {masqueradeBit: 32}", "proxy.masqueradeBit: 32"},
		{"sync", header + "proxy: {syncPeriod: 0s}", "proxy.syncPeriod: 0s"},
		{"cidr", header + "proxy: {clusterCIDRs: [10.244.0.0]}", `proxy.clusterCIDRs[0]: "10.244.0.0"`},
		{"node port range", header + "proxy: {nodePortAddresses: [a, 10.0.0.0/8]}", `proxy.nodePortAddresses[0]: "a"`},
		{"primary and a range", header + "proxy: {nodePortAddresses: [10.0.0.0/8, primary]}", `proxy.nodePortAddresses: "primary" does not go`},
		{"detection", header + "proxy: {detectLocal: {mode: Guess}}", `proxy.detectLocal.mode: "Guess"`},
		{"detection by nothing", header + "proxy: {detectLocal: {mode: ClusterCIDR}}", "proxy.detectLocal.mode: ClusterCIDR needs"},
		{"detection by no bridge", header + "proxy: {detectLocal: {mode: BridgeInterface}}", `proxy.detectLocal.interface: ""`},
		{"detection by no name", header + "proxy: {detectLocal: {mode: InterfaceNamePrefix, interface: 'a b'}}", `proxy.detectLocal.interface: "a b"`},
		{"detection by a wildcard", header + "proxy: {detectLocal: {mode: InterfaceNamePrefix, interface: veth+}}", `proxy.detectLocal.interface: "veth+"`},
		{"detection by a long name", header + "proxy: {detectLocal: {mode: BridgeInterface, interface: abcdefghijklmnop}}", `proxy.detectLocal.interface: "abcdefghijklmnop"`},
		{"detection by a name too many", header + "proxy: {detectLocal: {interface: cni0}}", `proxy.detectLocal.interface: "cni0" has no meaning`},
		{"domain", header + "dns: {domain: 'cluster local'}", `dns.domain: "cluster local"`},
		{"listen", header + "dns: {listen: [':53']}", `dns.listen[0]: ":53"`},
		{"dns service", header + "dns: {service: kube-dns}", `dns.service: "kube-dns"`},
		{"peer port", header + "dns: {peerPort: 65536}", "dns.peerPort: 65536"},
		{"clients", header + "dns: {clients: [10.244.0.1]}", `dns.clients[0]: "10.244.0.1"`},
		{"ttl", header + "dns: {ttl: 2h}", "dns.ttl: 2h"},
		{"upstream by name", header + "dns: {upstreams: [dns.example.org]}", `dns.upstreams[0]: "dns.example.org"`},
		{"stub without server", header + "dns: {stubDomains: {corp.example: []}}", "dns.stubDomains[corp.example]: names no server"},
		{"stub server", header + "dns: {stubDomains: {corp.example: [/etc/resolv.conf]}}", `dns.stubDomains[corp.example][0]: "/etc/resolv.conf"`},
		{"pods", header + "dns: {pods: all}", `dns.pods: "all"`},
		{"rules awaited for ever", header + "dns: {awaitRules: 1h}", "dns.awaitRules: 1h0m0s is not between 0s and 10s"},
		{"zone for outside", header + "dns: {outside: {zone: 'lb example'}}", `dns.outside.zone: "lb example"`},
		{"zone within the cluster's", header + "dns: {outside: {zone: lb.cluster.local}}", `dns.outside.zone: "lb.cluster.local" and the cluster's domain "cluster.local" are within each other`},
		{"zone around the cluster's", header + "dns: {domain: k8s.example.org, outside: {zone: example.org}}", "dns.outside.zone: \"example.org\" and"},
		{"port for outside", header + "dns: {outside: {zone: lb.example.org, port: 0}}", "dns.outside.port: 0"},
		{"ttl for outside", header + "dns: {outside: {zone: lb.example.org, ttl: 2h}}", "dns.outside.ttl: 2h"},
		{"server of the zone", header + "dns: {outside: {zone: lb.example.org, nameServers: ['n s']}}", `dns.outside.nameServers[0]: "n s"`},
		{"resolv.conf of nodes", header + "dns: {searchPath: {enabled: true, resolvConf: ''}}", `dns.searchPath.resolvConf: ""`},
		{"health", header + "health: {bindAddress: ''}", `health.bindAddress: ""`},
		{"metrics", header + "metrics: {bindAddress: localhost}", `metrics.bindAddress: "localhost"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that contains %q", err, tt.want)
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, err := Parse([]byte(header + "dns: {pods: all, nope: 1}\nproxy: {masqueradeBit: -1}"))
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	slices.Sort(lines)
	want := []string{
		`dns.pods: "all" is not one of disabled, insecure and verified`,
		`proxy.masqueradeBit: -1 is not between 0 and 31`,
		`unknown field "dns.nope"`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestGateWants: how many of how many nodes.
func TestGateWants(t *testing.T) {
	for _, tt := range []struct {
		nodes       string
		of2, of9, n int
	}{{"100%", 2, 9, 1}, {"50%", 1, 5, 1}, {"1%", 1, 1, 1}, {"90%", 2, 9, 1}, {"1", 1, 1, 1}, {"3", 2, 3, 1}} {
		cfg, err := Parse([]byte(header + "controllers: {readiness: {gate: {nodes: " + tt.nodes + "}}}"))
		if err != nil {
			t.Fatal(err)
		}
		g := &cfg.Controllers.Readiness.Gate
		if got := []int{g.Wanted(2), g.Wanted(9), g.Wanted(0)}; !slices.Equal(got, []int{tt.of2, tt.of9, tt.n}) {
			t.Errorf("%s of 2, 9 and 0 nodes: %v", tt.nodes, got)
		}
	}
}
