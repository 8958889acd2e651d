package main

import (
	"context"
	"fmt"
	"time"
)

const (
	etcdName       = "etcd"
	apiServerName  = "kube-apiserver"
	controllerName = "kube-controller-manager"
	schedulerName  = "kube-scheduler"
)

// startEtcd starts a fresh etcd. What it holds does not outlive the cluster, so
// it need not wait for the disk.
func (c *cluster) startEtcd(ctx context.Context, r *record) error {
	return c.ready(ctx, r, etcdName, 30*time.Second, func(ctx context.Context) error {
		return get(ctx, httpClient, etcdURL+"/health", nil)
	}, etcdName,
		"--name=signpost-cluster", "--data-dir="+c.paths.etcd(), "--unsafe-no-fsync",
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls="+etcdPeerURL, "--initial-advertise-peer-urls="+etcdPeerURL,
		"--initial-cluster=signpost-cluster="+etcdPeerURL)
}

func (c *cluster) startAPIServer(ctx context.Context, r *record) error {
	program, err := c.program(apiServerName)
	if err != nil {
		return err
	}
	api, err := c.admin()
	if err != nil {
		return err
	}
	return c.ready(ctx, r, apiServerName, 90*time.Second, func(ctx context.Context) error {
		return get(ctx, api, apiServerURL+"/readyz", nil)
	}, append([]string{program}, apiServerArgs(c.paths)...)...)
}

func apiServerArgs(p paths) []string {
	return []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=" + hostIP, "--advertise-address=" + hostIP, "--secure-port=6443",
		"--service-cluster-ip-range=" + serviceCIDR,
		"--tls-cert-file=" + p.cert(apiServerName), "--tls-private-key-file=" + p.key(apiServerName),
		"--client-ca-file=" + p.cert(caCert),
		"--service-account-issuer=https://kubernetes.default.svc." + domain,
		"--service-account-key-file=" + p.cert(serviceAccounts),
		"--service-account-signing-key-file=" + p.key(serviceAccounts),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority=" + p.cert(caCert),
		"--kubelet-client-certificate=" + p.cert("apiserver-to-kubelet"), "--kubelet-client-key=" + p.key("apiserver-to-kubelet"),
	}
}

func (c *cluster) startControllers(r *record) error {
	program, err := c.program(controllerName)
	if err != nil {
		return err
	}
	return c.ensure(r, controllerName, append([]string{program}, controllerArgs(c.paths, r.Proxy)...)...)
}

// controllerArgs leaves the endpoint controllers to Signpost, unless another
// proxy is asked for: that comparison is with all that Kubernetes brings.
func controllerArgs(p paths, proxy string) []string {
	controllers := "*"
	if proxy == signpost {
		controllers += ",-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"
	}
	return []string{
		"--kubeconfig=" + p.config(controllerName), "--leader-elect=false", "--bind-address=127.0.0.1",
		"--controllers=" + controllers,
		"--use-service-account-credentials=true", "--service-account-private-key-file=" + p.key(serviceAccounts),
		"--root-ca-file=" + p.cert(caCert),
		// Else a Deployment of ten pods takes seconds to be scaled.
		"--kube-api-qps=100", "--kube-api-burst=200",
	}
}

func (c *cluster) startScheduler(r *record) error {
	program, err := c.program(schedulerName)
	if err != nil {
		return err
	}
	return c.ensure(r, schedulerName, program,
		"--kubeconfig="+c.paths.config(schedulerName), "--leader-elect=false", "--bind-address=127.0.0.1")
}

// stopAPIServer is the command of that name: for what has to be true while there is none.
func stopAPIServer(ctx context.Context, c *cluster, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	return c.exclusively(func() error {
		r, err := c.owned()
		if err != nil {
			return err
		}
		return c.out.Do(apiServerName+" stopped", func() error {
			return r.process(apiServerName).stop(ctx, 5*time.Second)
		})
	})
}

// startAPIServer is the command of that name.
func startAPIServer(ctx context.Context, c *cluster, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	return c.exclusively(func() error {
		r, err := c.owned()
		if err != nil {
			return err
		}
		if !r.process(etcdName).alive() {
			return fmt.Errorf("etcd does not run either: start all that is missing with: go run ./hack/cluster up")
		}
		return c.out.Do(apiServerName+" ready", func() error { return c.startAPIServer(ctx, r) })
	})
}
