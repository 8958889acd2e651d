package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// decode reads the objects of a YAML file, and fails if it is none.
func decode(t *testing.T, text []byte) []map[string]any {
	t.Helper()
	var out []map[string]any
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(part), &object); err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		out = append(out, object)
	}
	return out
}

func rendered(t *testing.T, name string, values any) []byte {
	t.Helper()
	text, err := render(name, values)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// field returns what is at the path, or nil.
func field(object map[string]any, path ...string) any {
	var value any = object
	for _, name := range path {
		m, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = m[name]
	}
	return value
}

func TestClusterManifest(t *testing.T) {
	objects := decode(t, rendered(t, "cluster.yaml", clusterValues()))
	if len(objects) != 3 {
		t.Fatalf("%d objects, want two nodes and the ConfigMap", len(objects))
	}
	for i, want := range []struct{ name, zone, cidr string }{{"node1", "zone1", "10.244.1.0/24"}, {"node2", "zone2", "10.244.2.0/24"}} {
		got := struct{ name, zone, cidr any }{
			field(objects[i], "metadata", "name"), field(objects[i], "metadata", "labels", "topology.kubernetes.io/zone"), field(objects[i], "spec", "podCIDR"),
		}
		if got.name != want.name || got.zone != want.zone || got.cidr != want.cidr {
			t.Errorf("node %d is %v, want %v", i+1, got, want)
		}
	}
	if got := field(objects[2], "data", "server"); got != "https://172.30.0.1:6443" {
		t.Errorf("the API server is at %v", got)
	}
}

func TestKubeletConfig(t *testing.T) {
	p := paths{"/var/cluster"}
	config := decode(t, rendered(t, "kubelet.yaml", kubeletValues(p, 2)))[0]
	for _, tt := range []struct {
		path []string
		want any
	}{
		{[]string{"containerRuntimeEndpoint"}, "unix:///run/containerd/containerd.sock"},
		{[]string{"resolvConf"}, "/var/cluster/node2/resolv.conf"},
		{[]string{"tlsCertFile"}, "/var/cluster/pki/node2.crt"},
		{[]string{"cgroupRoot"}, "/signpost-cluster/pods-node2"},
		{[]string{"authentication", "anonymous", "enabled"}, false},
		{[]string{"authorization", "mode"}, "Webhook"},
	} {
		if got := field(config, tt.path...); got != tt.want {
			t.Errorf("%s = %v, want %v", strings.Join(tt.path, "."), got, tt.want)
		}
	}
}

func TestCNIConfig(t *testing.T) {
	var config struct {
		Plugins []struct {
			Type string
			IPAM struct{ Ranges [][]struct{ Subnet string } }
		}
	}
	if err := json.Unmarshal(rendered(t, "cni.conflist", cniValues(1)), &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Plugins) != 2 || config.Plugins[0].IPAM.Ranges[0][0].Subnet != "10.244.1.0/24" {
		t.Errorf("plugins are %+v", config.Plugins)
	}
}

func TestOtherFiles(t *testing.T) {
	proxy := decode(t, rendered(t, "kube-proxy.yaml", kubeProxyValues(paths{"/c"}, 1)))[0]
	if got := field(proxy, "clientConnection", "kubeconfig"); got != "/c/kube-proxy.kubeconfig" {
		t.Errorf("kubeconfig of kube-proxy is %v", got)
	}
	values, err := coreDNSValues()
	if err != nil {
		t.Fatal(err)
	}
	service := decode(t, rendered(t, "coredns.yaml", values))[5]
	if got := field(service, "spec", "clusterIP"); got != dnsService {
		t.Errorf("the address of CoreDNS is %v, want %s, which kubelets tell the pods", got, dnsService)
	}
	toml := string(rendered(t, "containerd.toml", containerdValues()))
	if !strings.Contains(toml, `sandbox_image = "signpost.dev/pause:dev"`) || !strings.Contains(toml, `bin_dir = "/usr/lib/cni"`) {
		t.Errorf("containerd's configuration:\n%s", toml)
	}
	if _, err := render("kubelet.yaml", map[string]string{}); err == nil {
		t.Error("a value that is missing is no error")
	}
}

// TestControllers holds that the endpoint controllers are Signpost's where
// Signpost is the proxy, and only there.
func TestControllers(t *testing.T) {
	for proxy, want := range map[string]string{
		signpost:  "--controllers=*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
		kubeProxy: "--controllers=*",
		nobody:    "--controllers=*",
	} {
		if args := controllerArgs(paths{"/c"}, proxy); !slices.Contains(args, want) {
			t.Errorf("proxy %s: %v, want %s", proxy, args, want)
		}
	}
}

func TestNodes(t *testing.T) {
	if diff := cmp.Diff(map[string]string{"0.0.0.0/0": "172.30.0.1", "10.244.2.0/24": "172.30.0.12"}, nodeRoutes(1)); diff != "" {
		t.Errorf("routes of node1 (-want +got):\n%s", diff)
	}
	var list nodeList
	const text = `{"items": [
		{"metadata": {"name": "node1"}, "status": {"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "False", "message": "no network"}]}},
		{"metadata": {"name": "node9"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}]}`
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"node1": "no network", "node2": "is not registered"}, list.unready()); diff != "" {
		t.Errorf("unready (-want +got):\n%s", diff)
	}
}
