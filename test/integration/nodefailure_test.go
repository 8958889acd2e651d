//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/signpost-dev/signpost/test/apiserver"
	"github.com/signpost-dev/signpost/test/netlab"
)

// fleet is some nodes with a daemon each, on one API server. There are no
// kubelets: the test renews the Leases.
type fleet struct {
	t       *testing.T
	server  *apiserver.Server
	api     kubernetes.Interface
	lab     *netlab.Lab
	members map[string]*member
}

type member struct {
	name string
	link string // at the router
	ns   *netlab.Namespace
	way  *forwarder
	log  *logBuffer
	stop func()

	mu      sync.Mutex
	kubelet bool // renews the Lease
}

func newFleet(t *testing.T, config string, names ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, members: map[string]*member{}}
	var err error
	if f.lab, err = netlab.New(names...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.lab.Close() })
	if f.server, err = apiserver.Start(t.Context(), apiserver.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.server.Stop() })
	if f.api, err = kubernetes.NewForConfig(f.server.Config()); err != nil {
		t.Fatal(err)
	}
	f.makeObjects()
	for i, ns := range f.lab.Pods {
		m := &member{name: ns.Name, link: fmt.Sprint("pod", i+1), ns: ns, log: &logBuffer{}, kubelet: true}
		m.way = newForwarder(t, ns, strings.TrimPrefix(f.server.Config().Host, "https://"))
		f.members[m.name] = m
		f.makeMember(m)
		f.start(m, config)
	}
	f.renewLeases()
	return f
}

// makeObjects makes the DNS Service, by whose endpoints daemons find each other,
// and the Service "web".
func (f *fleet) makeObjects() {
	f.t.Helper()
	ctx := f.t.Context()
	for _, svc := range []*corev1.Service{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns"}, Spec: corev1.ServiceSpec{
			ClusterIP: dnsIP, Ports: []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP}}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}},
	} {
		if _, err := f.api.CoreV1().Services(svc.Namespace).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
			f.t.Fatal(err)
		}
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-dns-test", Labels: map[string]string{discoveryv1.LabelServiceName: "kube-dns"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("dns"), Port: new(int32(10053)), Protocol: new(corev1.ProtocolUDP)}},
	}
	for _, ns := range f.lab.Pods {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ns.Addrs[0].String()}, NodeName: new(ns.Name)})
	}
	if _, err := f.api.DiscoveryV1().EndpointSlices("kube-system").Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

// makeMember makes the objects of a node: itself, its Lease, and a pod of "web".
func (f *fleet) makeMember(m *member) {
	f.t.Helper()
	ctx := f.t.Context()
	node, err := f.api.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name}}, metav1.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.ns.Addrs[0].String()}}
	if _, err := f.api.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		f.t.Fatal(err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: m.name}}
	if _, err := f.api.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-" + m.name, Namespace: "default", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{NodeName: m.name, Containers: []corev1.Container{{Name: "main", Image: "none"}}},
	}
	if pod, err = f.api.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
	ip := fmt.Sprintf("10.244.0.%d", len(f.members))
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{
		{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}}
	if _, err := f.api.CoreV1().Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) start(m *member, config string) {
	f.t.Helper()
	dir := f.t.TempDir()
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["test"] = &clientcmdapi.Cluster{Server: "https://" + m.way.address, InsecureSkipTLSVerify: true}
	kubeconfig.AuthInfos["test"] = &clientcmdapi.AuthInfo{Token: f.server.Config().BearerToken}
	kubeconfig.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	kubeconfig.CurrentContext = "test"
	text := fmt.Sprintf("apiVersion: config.signpost.dev/v1alpha1\nkind: SignpostConfiguration\nnodeName: %s\nproxy: {enabled: false}\ndns: {upstreams: [%s]}\n%s", m.name, filepath.Join(dir, "resolv.conf"), config)
	err := errors.Join(
		clientcmd.WriteToFile(*kubeconfig, filepath.Join(dir, "kubeconfig")),
		os.WriteFile(filepath.Join(dir, "resolv.conf"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o644))
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", filepath.Join(dir, "config.yaml"), "--kubeconfig", filepath.Join(dir, "kubeconfig"))
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.Env = append(os.Environ(), "SIGNPOST_API_SERVER=")
	if err := m.ns.DoAlone(cmd.Start); err != nil {
		f.t.Fatal(err)
	}
	m.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			f.t.Errorf("daemon of %s: %v", m.name, err)
		}
		if f.t.Failed() {
			f.t.Logf("the log of %s:\n%s", m.name, m.log)
		}
	})
	f.t.Cleanup(m.stop)
}

// renewLeases is the kubelets.
func (f *fleet) renewLeases() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	f.t.Cleanup(func() { cancel(); wg.Wait() })
	for _, m := range f.members {
		wg.Go(func() {
			for ctx.Err() == nil {
				if m.renews() {
					patch := fmt.Sprintf(`{"spec":{"leaseDurationSeconds":40,"renewTime":%q}}`, time.Now().UTC().Format(metav1.RFC3339Micro))
					_, err := f.api.CoordinationV1().Leases(corev1.NamespaceNodeLease).Patch(ctx, m.name, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
					if err != nil && ctx.Err() == nil {
						f.t.Errorf("renew the Lease of %s: %v", m.name, err)
					}
				}
				select {
				case <-ctx.Done():
				case <-time.After(2 * time.Second): // oftener than kubelets, to need less patience
				}
			}
		})
	}
}

func (m *member) renews() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kubelet
}

// lives switches a kubelet on or off.
func (m *member) lives(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kubelet = on
}

// freeze takes everything from a node but its power: network, kubelet and API
// server; thaw gives it back.
func (f *fleet) freeze(m *member) {
	f.t.Helper()
	m.lives(false)
	m.way.shut()
	f.ip("link", "set", m.link, "down")
}

func (f *fleet) thaw(m *member) {
	f.t.Helper()
	f.thawLink(m)
	m.way.open()
	m.lives(true)
}

// ip runs the program where all packets come by.
func (f *fleet) ip(args ...string) {
	f.t.Helper()
	if _, err := f.lab.Node.Command(f.t.Context(), "", "ip", args...); err != nil {
		f.t.Fatal(err)
	}
}

// ready returns the nodes whose endpoint of "web" is ready and serving.
func (f *fleet) ready() []string {
	f.t.Helper()
	list, err := f.api.DiscoveryV1().EndpointSlices("default").List(f.t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=web"})
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready && *e.Conditions.Serving {
				out = append(out, *e.NodeName)
			}
		}
	}
	slices.Sort(out)
	return out
}

// untilReady waits until exactly these nodes' endpoints are ready.
func (f *fleet) untilReady(what string, want ...string) time.Duration {
	f.t.Helper()
	began := time.Now()
	for {
		got := f.ready()
		took := time.Since(began)
		if slices.Equal(got, want) {
			f.t.Logf("%6.1f s until %s", took.Seconds(), what)
			return took
		}
		if took > 60*time.Second {
			f.t.Fatalf("%s: ready are %v, want %v", what, got, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stayReady holds that the endpoints of these nodes are ready all the time.
func (f *fleet) stayReady(d time.Duration, what string, want ...string) {
	f.t.Helper()
	for began := time.Now(); time.Since(began) < d; time.Sleep(50 * time.Millisecond) {
		if got := f.ready(); !slices.Equal(got, want) {
			f.t.Fatalf("%s: after %v ready are %v, want %v", what, time.Since(began), got, want)
		}
	}
}

func (f *fleet) leader() *member {
	f.t.Helper()
	l, err := f.api.CoordinationV1().Leases("kube-system").Get(f.t.Context(), "signpost", metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.members[*l.Spec.HolderIdentity]
}

// TestNodeFailure freezes nodes of four: one that does not lead, the leader, and
// then none but the Leases of all.
func TestNodeFailure(t *testing.T) {
	f := newFleet(t, "leaderElection: {leaseDuration: 3s, renewDeadline: 2s, retryPeriod: 500ms}\ncontrollers: {nodeFailure: fast}\n", "m1", "m2", "m3", "m4")
	all := []string{"m1", "m2", "m3", "m4"}
	but := func(m *member) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == m.name })
	}
	f.untilReady("all endpoints are published", all...)
	time.Sleep(3 * time.Second) // all have heard each other

	leader := f.leader()
	follower := f.members[but(leader)[0]]
	t.Logf("%s leads; %s freezes", leader.name, follower.name)
	f.freeze(follower)
	if took := f.untilReady("its endpoint has left", but(follower)...); took < 2*time.Second || took > 10*time.Second {
		t.Errorf("that took %v", took)
	}
	f.thaw(follower)
	if took := f.untilReady("it is back", all...); took > 5*time.Second {
		t.Errorf("that took %v", took)
	}

	t.Log("no Lease is renewed, as when the control plane is cut off; nodes hear each other")
	for _, m := range f.members {
		m.lives(false)
	}
	f.stayReady(15*time.Second, "Leases are old", all...)
	for _, m := range f.members {
		m.lives(true)
	}
	time.Sleep(3 * time.Second)

	t.Log("a link goes down, and its node's kubelet reaches the API server: a contradiction, once the Lease is renewed")
	f.ip("link", "set", follower.link, "down")
	time.Sleep(8 * time.Second)
	f.stayReady(5*time.Second, "its Lease is renewed", all...)
	f.thawLink(follower)
	time.Sleep(3 * time.Second)

	leader = f.leader()
	t.Logf("%s, which leads, freezes", leader.name)
	f.freeze(leader)
	if took := f.untilReady("its endpoint has left", but(leader)...); took > 20*time.Second {
		t.Errorf("that took %v", took)
	}
	f.thaw(leader)
	f.untilReady("it is back", all...)
}

func (f *fleet) thawLink(m *member) {
	f.t.Helper()
	f.ip("link", "set", m.link, "up")
	f.ip("route", "replace", m.ns.Addrs[0].String(), "dev", m.link)
}
