package apiserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// StockControllers is a running kube-controller-manager.
type StockControllers struct{ process *process }

// StartStock starts kube-controller-manager with only the named controllers,
// such as "endpointslice-controller", for tests that compare with it. It may
// send far more requests than its defaults allow, so that a comparison does not
// measure those. It holds no Lease.
func (s *Server) StartStock(controllers ...string) (*StockControllers, error) {
	return s.startStock(controllers, "--leader-elect=false")
}

// StartStockLeader is like StartStock, but with the Lease that it has in a
// cluster, kube-system/kube-controller-manager, which it gives back when it is
// stopped.
func (s *Server) StartStockLeader(controllers ...string) (*StockControllers, error) {
	return s.startStock(controllers, "--leader-elect=true")
}

func (s *Server) startStock(controllers []string, more ...string) (*StockControllers, error) {
	program := filepath.Join(filepath.Dir(s.programs.apiserver), "kube-controller-manager")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%s is missing: %s", program, advice)
	}
	kubeconfig := filepath.Join(s.dir, "kubeconfig")
	if err := s.WriteKubeconfig(kubeconfig); err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"--kubeconfig=" + kubeconfig,
		"--controllers=" + strings.Join(controllers, ","),
		"--kube-api-qps=1000", "--kube-api-burst=2000", "--concurrent-service-endpoint-syncs=20",
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]), "--cert-dir=" + filepath.Join(s.dir, "stock"),
	}, more...)
	p, err := startProcess(filepath.Join(s.dir, "kube-controller-manager.log"), program, args...)
	if err != nil {
		return nil, err
	}
	return &StockControllers{p}, nil
}

// Stop stops it.
func (c *StockControllers) Stop() error { return c.process.stop(5 * time.Second) }

// WriteKubeconfig writes a kubeconfig for the server's administrator.
func (s *Server) WriteKubeconfig(file string) error {
	config := s.Config()
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: config.Host, CertificateAuthority: config.CAFile}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"test": {Token: config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, file)
	if err != nil {
		return fmt.Errorf("write a kubeconfig: %w", err)
	}
	return nil
}
