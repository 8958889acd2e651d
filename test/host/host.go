package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/netlab"
)

// Host is a node with pods. Its methods are not safe for concurrent use.
type Host struct {
	*netlab.Lab
	// Name is the name of its node object.
	Name string
	// Dir is for files of the program.
	Dir string
	// Kubeconfig is a file that leads to the API server from within.
	Kubeconfig string

	listener net.Listener
	program  *exec.Cmd
	log      string
	// beside are other programs, that run until Stop.
	beside []*exec.Cmd
}

// New makes a host with files in dir, which has to exist. Call Stop.
func New(dir, name string, server *apiserver.Server, pods ...string) (h *Host, err error) {
	h = &Host{
		Name: name, Dir: dir,
		Kubeconfig: filepath.Join(dir, name+".kubeconfig"), log: filepath.Join(dir, name+".log"),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Stop())
		}
	}()
	if h.Lab, err = netlab.New(pods...); err != nil {
		return h, err
	}
	if err = h.Node.Do(func() (err error) {
		h.listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		return h, err
	}
	go h.forward(strings.TrimPrefix(server.Config().Host, "https://"))
	return h, h.writeKubeconfig(server.Config().BearerToken)
}

func (h *Host) writeKubeconfig(token string) error {
	k := clientcmdapi.NewConfig()
	k.Clusters["bench"] = &clientcmdapi.Cluster{Server: "https://" + h.listener.Addr().String(), InsecureSkipTLSVerify: true}
	k.AuthInfos["bench"] = &clientcmdapi.AuthInfo{Token: token}
	k.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	k.CurrentContext = "bench"
	return clientcmd.WriteToFile(*k, h.Kubeconfig)
}

// forward carries connections out of the namespace until the listener is closed.
func (h *Host) forward(target string) {
	for {
		near, err := h.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer near.Close()
			far, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer far.Close()
			go func() {
				_, _ = io.Copy(far, near)
				_ = far.Close()
			}()
			_, _ = io.Copy(near, far)
		}()
	}
}

// Start starts a program on the node, with env in addition to this process's
// environment. There can be one at a time.
func (h *Host) Start(ctx context.Context, env []string, program string, args ...string) error {
	cmd, err := h.spawn(ctx, h.log, env, program, args)
	if err == nil {
		h.program = cmd
	}
	return err
}

// StartBeside starts another program on the node, which ends with the host. What it
// prints is in a file of its name.
func (h *Host) StartBeside(ctx context.Context, program string, args ...string) error {
	cmd, err := h.spawn(ctx, filepath.Join(h.Dir, filepath.Base(program)+".log"), nil, program, args)
	if err == nil {
		h.beside = append(h.beside, cmd)
	}
	return err
}

func (h *Host) spawn(ctx context.Context, to string, env []string, program string, args []string) (*exec.Cmd, error) {
	log, err := os.Create(to)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	return cmd, h.Node.DoAlone(cmd.Start)
}

// StartSignpost starts the daemon, with the lines of config in addition to its
// node's name.
func (h *Host) StartSignpost(ctx context.Context, binary, config string) error {
	text := "apiVersion: config.signpost.dev/v1alpha1\nkind: SignpostConfiguration\nnodeName: " + h.Name + "\n" + config
	file := filepath.Join(h.Dir, h.Name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	return h.Start(ctx, []string{"SIGNPOST_API_SERVER="}, binary, "run", "--config", file, "--kubeconfig", h.Kubeconfig)
}

// PID is that of the program.
func (h *Host) PID() int { return h.program.Process.Pid }

// Log returns what the program has printed.
func (h *Host) Log() string {
	text, err := os.ReadFile(h.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// AwaitReady waits until url answers with 200 on the node, limit at most.
func (h *Host) AwaitReady(ctx context.Context, url string, limit time.Duration) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = h.Node.Do(func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		res, err := client.Get(url)
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(res.Status)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %v: %w; its log:\n%s", h.Name, limit, err, h.Log())
		}
	}
}

// End ends the program, if there is one.
func (h *Host) End() error {
	if h.program == nil {
		return nil
	}
	cmd := h.program
	h.program = nil
	// What it says of being asked to end does not matter here.
	err := cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	return err
}

// Stop ends the program and removes everything.
func (h *Host) Stop() error {
	errs := []error{h.End()}
	for _, cmd := range h.beside {
		errs = append(errs, cmd.Process.Kill())
		_ = cmd.Wait() // killed
	}
	if h.listener != nil {
		errs = append(errs, h.listener.Close())
	}
	if h.Lab != nil {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}
