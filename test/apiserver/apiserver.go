package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// ServiceCIDR is the range that the server takes cluster IPs from.
const ServiceCIDR = "10.96.0.0/16"

// NodeAddress is where the server says that it can be reached, in the endpoints
// of the Service "kubernetes". Nobody is there: it is from a range that is kept
// for documentation, since the API accepts no loopback address there.
const NodeAddress = "192.0.2.1"

const token = "signpost-test"

// startLimit is how long etcd and the API server may take to become ready, each.
const startLimit = 2 * time.Minute

// Options say how to run the server. The zero value is fine.
type Options struct {
	// RBAC makes the server ask its RBAC objects instead of allowing everything.
	// The user of Config is in system:masters either way.
	RBAC bool
	// Args are further flags of kube-apiserver.
	Args []string
}

// Server is a kube-apiserver with its etcd. Its methods must not be called at
// the same time.
type Server struct {
	options  Options
	programs programs
	dir      string
	etcdPort int
	port     int
	etcd     *process
	api      *process
}

// Start starts both and returns when the server is ready. The caller must call
// Stop. Programs that are missing are an error that says how to get them.
func Start(ctx context.Context, o Options) (*Server, error) {
	programs, err := findPrograms()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "signpost-apiserver-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the server's data: %w", err)
	}
	s := &Server{options: o, programs: programs, dir: dir}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	if err := writeKeys(s.dir); err != nil {
		return err
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	s.etcdPort, s.port = ports[0], ports[2]
	if err := s.startEtcd(ctx, ports[1]); err != nil {
		return err
	}
	return s.StartAPI(ctx)
}

func (s *Server) startEtcd(ctx context.Context, peerPort int) (err error) {
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", s.etcdPort), fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	s.etcd, err = startProcess(filepath.Join(s.dir, "etcd.log"), s.programs.etcd,
		"--name=test", "--data-dir="+filepath.Join(s.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer)
	if err != nil {
		return err
	}
	return s.etcd.waitReady(ctx, http.DefaultClient, client+"/health", "")
}

// StartAPI starts the API server after StopAPI, with the same address and data,
// and returns when it is ready.
func (s *Server) StartAPI(ctx context.Context) (err error) {
	s.api, err = startProcess(filepath.Join(s.dir, "kube-apiserver.log"), s.programs.apiserver, s.args()...)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: insecure(), DisableKeepAlives: true}}
	return s.api.waitReady(ctx, client, s.url()+"/readyz", token)
}

// StopAPI stops the API server, but not etcd: connections break, and new ones
// are refused.
func (s *Server) StopAPI() error {
	if s.api == nil {
		return nil
	}
	err := s.api.stop(0)
	s.api = nil
	return err
}

// Forget removes an object of the core group from etcd, past the API server: it
// can be away, and then finds its data changed. That it is not there is an error.
func (s *Server) Forget(ctx context.Context, resource, namespace, name string) error {
	object := strings.Join([]string{"/registry", resource, namespace, name}, "/")
	body, err := json.Marshal(map[string][]byte{"key": []byte(object)}) // bytes are base64, as etcd wants them
	if err != nil {
		return err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/v3/kv/deleterange", s.etcdPort)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("remove %s: %w", object, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Deleted string `json:"deleted"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("remove %s: etcd answers %s: %w", object, resp.Status, err)
	}
	if answer.Deleted != "1" {
		return fmt.Errorf("remove %s: etcd answers %s and has deleted %q, want 1", object, resp.Status, answer.Deleted)
	}
	return nil
}

// Stop stops both and removes their data.
func (s *Server) Stop() error {
	err := s.StopAPI()
	if s.etcd != nil {
		err = errors.Join(err, s.etcd.stop(0))
		s.etcd = nil
	}
	if e := os.RemoveAll(s.dir); e != nil {
		err = errors.Join(err, fmt.Errorf("remove the server's data: %w", e))
	}
	return err
}

// Config returns the way to the server for a user who may do everything, with
// client-side limits off.
func (s *Server) Config() *rest.Config {
	return &rest.Config{
		Host:            s.url(),
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(s.dir, "certs", "apiserver.crt")},
		QPS:             -1,
	}
}

func (s *Server) url() string { return "https://127.0.0.1:" + strconv.Itoa(s.port) }

func (s *Server) args() []string {
	authorization := "AlwaysAllow"
	if s.options.RBAC {
		authorization = "RBAC"
	}
	return append([]string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", s.etcdPort),
		"--bind-address=127.0.0.1",
		"--advertise-address=" + NodeAddress,
		"--secure-port=" + strconv.Itoa(s.port),
		"--cert-dir=" + filepath.Join(s.dir, "certs"),
		"--token-auth-file=" + filepath.Join(s.dir, "tokens.csv"),
		"--authorization-mode=" + authorization,
		"--service-cluster-ip-range=" + ServiceCIDR,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + filepath.Join(s.dir, "sa.key"),
		"--service-account-signing-key-file=" + filepath.Join(s.dir, "sa.key"),
		// There is no controller that would make the accounts that it asks for.
		"--disable-admission-plugins=ServiceAccount",
		// Stopping must not wait for those who watch.
		"--shutdown-delay-duration=0",
	}, s.options.Args...)
}

// waitReady waits until url answers with 200.
func (p *process) waitReady(ctx context.Context, client *http.Client, url, bearer string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var last error
	for {
		if last = get(ctx, client, url, bearer); last == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it was ready; the end of its log:\n%s", p.cmd.Path, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready in %v: %w; the end of its log:\n%s", p.cmd.Path, startLimit, last, p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, client *http.Client, url, bearer string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// freePorts returns ports of loopback that nobody listens on, all different.
func freePorts(n int) ([]int, error) {
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // all of them stay open until the last is found
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out, nil
}
