package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Default returns the configuration that a file with only apiVersion and kind stands for.
func Default() *SignpostConfiguration {
	return &SignpostConfiguration{
		TypeMeta:         metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind},
		ClientConnection: ClientConnection{QPS: 0, Burst: 200},
		LeaderElection: LeaderElection{
			LeaderElect:       true,
			ResourceName:      "signpost",
			ResourceNamespace: metav1.NamespaceSystem,
			LeaseDuration:     seconds(15),
			RenewDeadline:     seconds(10),
			RetryPeriod:       seconds(2),
			Candidates:        3,
			WarmStandby:       true,
		},
		Controllers: Controllers{
			Endpoints:              EndpointsController{Enabled: true},
			EndpointSlice:          EndpointSliceController{Enabled: true, MaxEndpointsPerSlice: 100},
			EndpointSliceMirroring: EndpointSliceMirroringController{Enabled: true, MaxEndpointsPerSubset: 1000},
			LoadBalancer:           LoadBalancerController{Enabled: true, Default: true},
			ExternalBackends:       ExternalBackendsController{Enabled: true},
			Readiness: ReadinessController{
				Enabled: true, ServiceConditions: true,
				Gate: ReadinessGate{Enabled: true, Nodes: intstr.FromString("100%"), Timeout: seconds(30)},
			},
			NodeFailure: NodeFailureConservative,
			Concurrency: 8,
		},
		Proxy: Proxy{
			Enabled:            true,
			Backend:            BackendAuto,
			ClusterCIDRs:       []string{},
			DetectLocal:        DetectLocal{Mode: DetectAuto},
			MasqueradeBit:      14,
			NodePortAddresses:  []string{},
			LocalhostNodePorts: true,
			SyncPeriod:         seconds(30),
		},
		DNS: DNS{
			Enabled:     true,
			Domain:      "cluster.local",
			Listen:      []string{},
			Service:     "kube-system/kube-dns",
			PeerPort:    10053,
			Clients:     []string{},
			TTL:         seconds(5),
			Upstreams:   []string{"/etc/resolv.conf"},
			StubDomains: map[string][]string{},
			Pods:        PodRecordsInsecure,
			AwaitRules:  seconds(1),
			SearchPath:  SearchPath{Enabled: false, ResolvConf: "/etc/resolv.conf"},
			NearFirst:   false,
			QueryLog:    false,
			Outside:     Outside{Zone: "", Port: 53, TTL: seconds(5), NameServers: []string{}},
		},
		Peers:    Peers{Enabled: true, Port: 10263},
		Announce: Announce{Enabled: true, Port: 10264},
		Health:   Health{BindAddress: "0.0.0.0:10256"},
		Metrics:  Metrics{BindAddress: "127.0.0.1:10249"},
	}
}

func seconds(n int) metav1.Duration {
	return metav1.Duration{Duration: time.Duration(n) * time.Second}
}
