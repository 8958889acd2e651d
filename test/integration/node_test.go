//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/netlab"
)

// binary is the daemon under test, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "signpost-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "signpost")
	build := exec.Command("go", "build", "-race", "-o", binary, "../../cmd/signpost")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the daemon:", err)
		return 1
	}
	return m.Run()
}

const (
	nodeName = "node1"
	dnsIP    = "10.96.0.10"
	// soon is how long anything may take that is not measured.
	soon = 20 * time.Second
)

// node is a node of a cluster: an API server, a network, and the daemon.
type node struct {
	t      *testing.T
	server *apiserver.Server
	api    kubernetes.Interface
	lab    *netlab.Lab
	way    *forwarder
	dir    string

	daemon *exec.Cmd
	exited chan error
	log    *logBuffer
	// path is put in front of the daemon's PATH.
	path string
}

// newNode starts everything but the daemon. The pods of the lab get their names
// and the addresses 10.0.1.1 and so on.
func newNode(t *testing.T, pods ...string) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), log: &logBuffer{}}
	var err error
	if n.lab, err = netlab.New(pods...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.lab.Close() })
	if n.server, err = apiserver.Start(t.Context(), apiserver.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.server.Stop() })
	if n.api, err = kubernetes.NewForConfig(n.server.Config()); err != nil {
		t.Fatal(err)
	}
	n.way = newForwarder(t, n.lab.Node, strings.TrimPrefix(n.server.Config().Host, "https://"))
	n.writeKubeconfig(n.way.address)
	n.writeConfig()
	t.Cleanup(func() {
		n.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", n.log)
		}
	})
	return n
}

func (n *node) writeKubeconfig(address string) {
	n.t.Helper()
	cfg := n.server.Config()
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["test"] = &clientcmdapi.Cluster{Server: "https://" + address, InsecureSkipTLSVerify: true}
	kubeconfig.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: cfg.BearerToken}
	kubeconfig.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	kubeconfig.CurrentContext = "test"
	if err := clientcmd.WriteToFile(*kubeconfig, filepath.Join(n.dir, "kubeconfig")); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) writeConfig() {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, "resolv.conf"), nil, 0o644); err != nil {
		n.t.Fatal(err)
	}
	text := fmt.Sprintf(`apiVersion: config.signpost.dev/v1alpha1
kind: SignpostConfiguration
nodeName: %s
dns: {upstreams: [%s/resolv.conf]}
leaderElection: {leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 500ms}
`, nodeName, n.dir)
	if err := os.WriteFile(filepath.Join(n.dir, "config.yaml"), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// start starts the daemon in the node's namespace.
func (n *node) start() {
	n.t.Helper()
	cmd := exec.Command(binary, "run", "--config", filepath.Join(n.dir, "config.yaml"), "--kubeconfig", filepath.Join(n.dir, "kubeconfig"))
	cmd.Stdout, cmd.Stderr = n.log, n.log
	cmd.Env = append(os.Environ(), "PATH="+n.path+":"+os.Getenv("PATH"), "SIGNPOST_API_SERVER=")
	if err := n.lab.Node.DoAlone(cmd.Start); err != nil {
		n.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	n.daemon, n.exited = cmd, exited
}

// stop sends the daemon a signal and waits until it has ended.
func (n *node) stop(with syscall.Signal) {
	if n.daemon == nil {
		return
	}
	_ = n.daemon.Process.Signal(with)
	select {
	case err := <-n.exited:
		if with == syscall.SIGTERM && err != nil {
			n.t.Errorf("the daemon does not end cleanly: %v", err)
		}
	case <-time.After(soon):
		_ = n.daemon.Process.Kill()
		n.t.Errorf("the daemon does not end by signal %v", with)
	}
	n.daemon = nil
}

// ready reports what /readyz says.
func (n *node) ready() error {
	var conn net.Conn
	if err := n.lab.Node.Do(func() (err error) {
		conn, err = net.Dial("tcp", "127.0.0.1:10256")
		return err
	}); err != nil {
		return err
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: time.Second}).Get("http://node/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz: %s", body)
	}
	return nil
}

// eventually tries until check returns nil, and returns how long that took.
func (n *node) eventually(what string, check func() error) time.Duration {
	n.t.Helper()
	begin := time.Now()
	for {
		err := check()
		took := time.Since(begin)
		if err == nil {
			return took
		}
		if took > soon {
			n.t.Fatalf("%s: not within %s: %v", what, soon, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// dial connects from a pod of the lab, or from "outside" or "node".
func (n *node) dial(from, to string) (netlab.Answer, error) {
	ns := n.lab.Node
	switch from {
	case "node":
	case "outside":
		ns = n.lab.Outside
	default:
		ns = n.lab.Pod(from)
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), time.Second)
	defer cancel()
	return ns.Dial(ctx, "tcp", netip.MustParseAddrPort(to))
}

// logBuffer collects what the daemon says.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
