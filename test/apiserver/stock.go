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

// Program is a running client of the server.
type Program struct{ process *process }

// Stop asks it to end and, if it does not, kills it.
func (p *Program) Stop() error { return p.process.stop(5 * time.Second) }

// PID is the number of its process, which may have ended.
func (p *Program) PID() int { return p.process.cmd.Process.Pid }

// Log returns the end of what it has printed.
func (p *Program) Log() string { return p.process.tail() }

// Run starts a program that is given a kubeconfig by the flag --kubeconfig, and
// further flags. It dies with this process.
func (s *Server) Run(program string, args ...string) (*Program, error) {
	kubeconfig := filepath.Join(s.dir, "kubeconfig")
	if err := s.WriteKubeconfig(kubeconfig); err != nil {
		return nil, err
	}
	p, err := startProcess(filepath.Join(s.dir, filepath.Base(program)+".log"), program, append(args, "--kubeconfig="+kubeconfig)...)
	if err != nil {
		return nil, err
	}
	return &Program{p}, nil
}

// StartStock starts kube-controller-manager with only the named controllers,
// such as "endpointslice-controller", for tests that compare with it. It may
// send far more requests than its defaults allow, so that a comparison does not
// measure those.
func (s *Server) StartStock(controllers ...string) (*Program, error) {
	return s.StartStockWith([]string{"--kube-api-qps=1000", "--kube-api-burst=2000", "--concurrent-service-endpoint-syncs=20"}, controllers...)
}

// StartStockWith starts it with flags of the caller's choice, and its defaults.
// It has no Lease, unless a flag says otherwise.
func (s *Server) StartStockWith(flags []string, controllers ...string) (*Program, error) {
	program, err := StockProgram("kube-controller-manager")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	return s.Run(program, append([]string{
		"--leader-elect=false", "--controllers=" + strings.Join(controllers, ","),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", ports[0]), "--cert-dir=" + filepath.Join(s.dir, "stock"),
	}, flags...)...)
}

// StockProgram returns the path of one of Kubernetes' own programs, as hack/cluster
// builds them.
func StockProgram(name string) (string, error) {
	return program(name, "kubernetes", "k8s.io/kubernetes")
}

// CoreDNS returns the path of CoreDNS, as hack/cluster builds it.
func CoreDNS() (string, error) { return program("coredns", "coredns", "github.com/coredns/coredns") }

func program(name, source, module string) (string, error) {
	dir, err := builtPrograms(source, module)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("%s is missing: %s", file, advice)
	}
	return file, nil
}

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
