//go:build integration

package names

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/netlab"
)

// corefile is kubeadm's, with a kubeconfig, with the upstream resolver of the test in
// place of /etc/resolv.conf, and without "cache 30": that one would go on answering
// for addresses whose owner a test has changed, in the case of who asked first.
const corefile = `.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %s
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    forward . %s {
        max_concurrent 1000
    }
    loop
    reload
    loadbalance
}
`

// startCoreDNS starts it in the pod and returns how to reach it. The pod has no way
// out, so that the API server comes to it by a relay.
func startCoreDNS(t *testing.T, server *apiserver.Server, pod *netlab.Namespace, upstream netip.AddrPort) *client {
	t.Helper()
	dir := t.TempDir()
	api := relay(t, pod, strings.TrimPrefix(server.Config().Host, "https://"))
	kubeconfig := filepath.Join(dir, "kubeconfig")
	writeKubeconfig(t, server, kubeconfig, api)
	file := filepath.Join(dir, "Corefile")
	if err := os.WriteFile(file, fmt.Appendf(nil, corefile, kubeconfig, upstream), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := apiserver.CoreDNS()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "-conf", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := make(chan struct{})
	// The kernel sends the death signal when the thread that started the process
	// ends, so this one stays in Wait.
	go func() {
		defer close(ended)
		_ = pod.Do(cmd.Run) // it fails by being killed
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the log of CoreDNS:\n%s", text)
		}
	})
	return &client{pod: pod, addr: netip.AddrPortFrom(pod.Addrs[0], 53)}
}

func writeKubeconfig(t *testing.T, server *apiserver.Server, file string, api netip.AddrPort) {
	t.Helper()
	config := server.Config()
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: "https://" + api.String(), CertificateAuthority: config.CAFile}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"test": {Token: config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
}

// relay listens on the loopback of a namespace and joins each connection to one to
// target, outside of it. The kernel chooses the port.
func relay(t *testing.T, from *netlab.Namespace, target string) netip.AddrPort {
	t.Helper()
	var listener net.Listener
	if err := from.Do(func() (err error) {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { join(near, target) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		conns.Wait()
	})
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

// join lasts until one side closes.
func join(near net.Conn, target string) {
	defer near.Close()
	far, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer far.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}
