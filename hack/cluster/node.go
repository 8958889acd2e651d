package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/signpost-dev/signpost/hack/cluster/step"
)

func (p paths) resolvConf(n node) string { return filepath.Join(p.node(n), "resolv.conf") }

// Names of the processes of a node.
func containerdName(n node) string { return "containerd-" + n.String() }
func kubeletName(n node) string    { return "kubelet-" + n.String() }
func kubeProxyName(n node) string  { return "kube-proxy-" + n.String() }

// startOutside makes the host outside: it is on the nodes' network and knows no pods.
func (c *cluster) startOutside(r *record) error {
	host, err := c.ensureHost(r, outsideHost, "")
	if err != nil {
		return err
	}
	return connect(host, outsideHost, outsideIP, nil)
}

// startNode starts the node as far as it does not need the API server, and
// imports the images into its container runtime.
func (c *cluster) startNode(ctx context.Context, r *record, n node) error {
	host, err := c.ensureNodeHost(ctx, r, n)
	if err != nil {
		return err
	}
	if err := connect(host, n.String(), n.ip(), nodeRoutes(n)); err != nil {
		return err
	}
	if err := c.writeNodeFiles(n); err != nil {
		return err
	}
	err = c.ready(ctx, r, containerdName(n), 30*time.Second, func(ctx context.Context) error {
		return runInNode(ctx, host, "ctr", "version")
	}, inNode(host, "containerd", "--config", c.paths.containerdConfig(n))...)
	if err != nil {
		return err
	}
	_, err = c.importImages(ctx, r, n)
	return err
}

// ensureNodeHost starts the node itself. If it has ended while some of what ran on
// it has not, that ends, too: it is as if the node were switched off and on.
func (c *cluster) ensureNodeHost(ctx context.Context, r *record, n node) (process, error) {
	if !r.process(n.String()).alive() {
		for _, group := range []string{n.String(), filepath.Base(podGroup(n))} {
			if err := killMembers(ctx, group); err != nil {
				return process{}, err
			}
		}
		if err := os.RemoveAll(c.paths.own(n, "/run")); err != nil {
			return process{}, err
		}
	}
	for _, folder := range ownFolders() {
		if err := os.MkdirAll(c.paths.own(n, folder), 0o755); err != nil {
			return process{}, err
		}
	}
	return c.ensureHost(r, n.String(), filepath.Join(c.paths.node(n), "root"))
}

func (p paths) containerdConfig(n node) string { return filepath.Join(p.node(n), "containerd.toml") }
func (p paths) kubeletConfig(n node) string    { return filepath.Join(p.node(n), "kubelet.yaml") }
func (p paths) kubeProxyConfig(n node) string  { return filepath.Join(p.node(n), "kube-proxy.yaml") }

func (c *cluster) writeNodeFiles(n node) error {
	cni := filepath.Join(c.paths.own(n, "/etc/cni"), "net.d", "10-signpost.conflist")
	if err := os.MkdirAll(filepath.Dir(cni), 0o755); err != nil {
		return err
	}
	// What the machine's own file names cannot be reached from a node. A test can
	// put a server here.
	resolv := "# The host outside: nobody listens there, unless a test does.\nnameserver " + outsideIP + "\n"
	return errors.Join(
		os.WriteFile(c.paths.resolvConf(n), []byte(resolv), 0o644),
		renderTo(c.paths.containerdConfig(n), "containerd.toml", containerdValues()),
		renderTo(c.paths.kubeletConfig(n), "kubelet.yaml", kubeletValues(c.paths, n)),
		renderTo(c.paths.kubeProxyConfig(n), "kube-proxy.yaml", kubeProxyValues(c.paths, n)),
		renderTo(cni, "cni.conflist", cniValues(n)),
	)
}

// startKubelet starts the node's kubelet, and its kube-proxy if there is to be one.
func (c *cluster) startKubelet(r *record, n node) error {
	program, err := c.program("kubelet")
	if err != nil {
		return err
	}
	host := r.process(n.String())
	err = c.ensure(r, kubeletName(n), inNode(host, program,
		"--config="+c.paths.kubeletConfig(n), "--kubeconfig="+c.paths.config(n.String()),
		"--hostname-override="+n.String(), "--node-ip="+n.ip())...)
	if err != nil || r.Proxy != kubeProxy {
		return err
	}
	if program, err = c.program(kubeProxy); err != nil {
		return err
	}
	return c.ensure(r, kubeProxyName(n), inNode(host, program, "--config="+c.paths.kubeProxyConfig(n))...)
}

// awaitNodes waits until the nodes are ready, or a kubelet has ended.
func (c *cluster) awaitNodes(ctx context.Context, r *record) error {
	api, err := c.admin()
	if err != nil {
		return err
	}
	var suspect node
	err = step.Await(ctx, time.Minute, func(ctx context.Context) error {
		for _, n := range nodes() {
			if suspect = n; !r.process(kubeletName(n)).alive() {
				return fmt.Errorf("kubelet of %s ended: %w", n, step.ErrHopeless)
			}
		}
		var list nodeList
		if err := get(ctx, api, apiServerURL+"/api/v1/nodes", &list); err != nil {
			return err
		}
		unready := list.unready()
		var reasons []string
		for _, n := range slices.Sorted(maps.Keys(unready)) {
			reasons = append(reasons, n+": "+unready[n])
		}
		if len(reasons) == 0 {
			return nil
		}
		if _, ok := unready["node1"]; ok {
			suspect = 1
		}
		return errors.New(strings.Join(reasons, "; "))
	})
	if err != nil {
		return &step.Failure{What: "the nodes did not become ready", Err: err, Log: c.paths.log(kubeletName(suspect)),
			Hint: "Look at what the kubelet says; clean up with: go run ./hack/cluster down"}
	}
	return nil
}
