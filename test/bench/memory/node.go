package main

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

// node is a network namespace with the daemon in it.
type node struct {
	name     string
	lab      *netlab.Lab
	listener net.Listener
	daemon   *exec.Cmd
	log      string
}

// startNode starts the daemon in a node of its own. Its only way out is to the API
// server.
func startNode(ctx context.Context, dir, binary, name string, server *apiserver.Server) (n *node, err error) {
	n = &node{name: name, log: filepath.Join(dir, name+".log")}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
		}
	}()
	if n.lab, err = netlab.New(); err != nil {
		return n, err
	}
	if err = n.lab.Node.Do(func() (err error) {
		n.listener, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}); err != nil {
		return n, err
	}
	go n.forward(strings.TrimPrefix(server.Config().Host, "https://"))
	kubeconfig, config := filepath.Join(dir, name+".kubeconfig"), filepath.Join(dir, name+".yaml")
	if err = n.writeFiles(kubeconfig, config, server.Config().BearerToken); err != nil {
		return n, err
	}
	log, err := os.Create(n.log)
	if err != nil {
		return n, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, binary, "run", "--config", config, "--kubeconfig", kubeconfig)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "SIGNPOST_API_SERVER=")
	if err = n.lab.Node.DoAlone(cmd.Start); err == nil {
		n.daemon = cmd
	}
	return n, err
}

func (n *node) writeFiles(kubeconfig, config, token string) error {
	k := clientcmdapi.NewConfig()
	k.Clusters["bench"] = &clientcmdapi.Cluster{Server: "https://" + n.listener.Addr().String(), InsecureSkipTLSVerify: true}
	k.AuthInfos["bench"] = &clientcmdapi.AuthInfo{Token: token}
	k.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	k.CurrentContext = "bench"
	if err := clientcmd.WriteToFile(*k, kubeconfig); err != nil {
		return err
	}
	text := "apiVersion: config.signpost.dev/v1alpha1\nkind: SignpostConfiguration\nnodeName: " + n.name + "\n"
	return os.WriteFile(config, []byte(text), 0o600)
}

// forward carries connections out of the namespace until the listener is closed.
func (n *node) forward(target string) {
	for {
		near, err := n.listener.Accept()
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

func (n *node) pid() int { return n.daemon.Process.Pid }

// awaitReady waits until /readyz says so.
func (n *node) awaitReady(ctx context.Context) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = n.lab.Node.Do(func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}}
	for deadline := time.Now().Add(readyLimit); ; time.Sleep(50 * time.Millisecond) {
		res, err := client.Get("http://127.0.0.1:10256/readyz")
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
			text, _ := os.ReadFile(n.log)
			return fmt.Errorf("%s is not ready after %v: %w; its log:\n%s", n.name, readyLimit, err, text)
		}
	}
}

func (n *node) stop() error {
	var errs []error
	if n.daemon != nil {
		errs = append(errs, n.daemon.Process.Signal(syscall.SIGTERM), n.daemon.Wait())
	}
	if n.listener != nil {
		errs = append(errs, n.listener.Close())
	}
	if n.lab != nil {
		errs = append(errs, n.lab.Close())
	}
	return errors.Join(errs...)
}
