package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/signpost-dev/signpost/hack/cluster/place"
	"github.com/signpost-dev/signpost/hack/cluster/step"
)

// here is a cluster in a folder of the test, of the checkout that it is in.
func here(t *testing.T) *cluster {
	t.Helper()
	checkout, err := place.Checkout()
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{checkout: checkout, cache: filepath.Join(t.TempDir(), "cache"), paths: paths{t.TempDir()}, out: &step.Printer{Out: t.Output()}}
}

// TestProgramFile holds that a program of another version is not taken for it.
func TestProgramFile(t *testing.T) {
	c := here(t)
	for name, want := range map[string]string{
		"kubelet": c.cache + "/programs/kubernetes-v1.36.3/kubelet",
		"coredns": c.cache + "/programs/coredns-v1.15.0/coredns",
	} {
		if got, err := c.program(name); err != nil || got != want {
			t.Errorf("program(%s) = %s, %v, want %s", name, got, err, want)
		}
	}
	if _, err := c.program("nginx"); !errors.As(err, new(usageError)) {
		t.Errorf("program(nginx) = %v, want an error of the command line", err)
	}
}

func TestKubernetesVersion(t *testing.T) {
	const want = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
	if got := kubernetesVersion("v1.36.3"); got != want {
		t.Errorf("kubernetesVersion() = %s, want %s", got, want)
	}
}

// TestNeededPrograms holds that what is not asked for is not built: CoreDNS alone
// takes minutes.
func TestNeededPrograms(t *testing.T) {
	c := here(t)
	kubectl, err := c.program("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(kubectl), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kubectl, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		proxy, dns string
		want       int
	}{{signpost, signpost, 4}, {kubeProxy, nobody, 5}, {kubeProxy, coreDNS, 6}, {nobody, nobody, 4}} {
		if got, err := c.neededPrograms(tt.proxy, tt.dns); err != nil || len(got) != tt.want {
			t.Errorf("neededPrograms(%s, %s) = %v, %v, want %d", tt.proxy, tt.dns, got, err, tt.want)
		}
	}
}

// TestPKI makes all certificates and lets Go's own TLS and client-go judge them.
func TestPKI(t *testing.T) {
	c := here(t)
	if err := c.ensurePKI(); err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(c.paths.cert(caCert))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	for _, id := range identities() {
		pair, err := tls.LoadX509KeyPair(c.paths.cert(id.file), c.paths.key(id.file))
		if err != nil {
			t.Fatal(err)
		}
		usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if id.server {
			usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}
		for _, host := range append(append([]string{""}, id.ips...), id.names...) {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host, KeyUsages: usages}); err != nil {
				t.Errorf("%s for %q: %v", id.file, host, err)
			}
		}
		if pair.Leaf.Subject.CommonName != id.user {
			t.Errorf("%s is the user %s, want %s", id.file, pair.Leaf.Subject.CommonName, id.user)
		}
	}
	if err := c.writeKubeconfig("admin"); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.paths.kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != apiServerURL || config.Insecure || len(config.CAData) == 0 || len(config.KeyData) == 0 {
		t.Errorf("the kubeconfig leads to %s, insecure %v", config.Host, config.Insecure)
	}
	before, err := os.ReadFile(c.paths.cert("admin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.ensurePKI(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(c.paths.cert("admin")); err != nil || string(after) != string(before) {
		t.Errorf("what is there was made anew, %v", err)
	}
}
