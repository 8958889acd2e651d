package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
)

// The addresses of the cluster. All are on this machine only.
const (
	hostIP      = "172.30.0.1" // this machine on the bridge: the API server
	outsideIP   = "172.30.0.100"
	podCIDR     = "10.244.0.0/16"
	serviceCIDR = "10.96.0.0/16"
	apiService  = "10.96.0.1"
	dnsService  = "10.96.0.10"
	domain      = "cluster.local"
	prefixBits  = 24

	apiServerURL = "https://" + hostIP + ":6443"
	// Not etcd's own ports: Debian's package may run a service on those.
	etcdURL     = "http://127.0.0.1:12379"
	etcdPeerURL = "http://127.0.0.1:12380"
)

// The names of what the cluster makes outside of its folder.
const (
	bridgeName  = "signpost0"
	groupName   = "signpost-cluster"
	outsideHost = "outside"
)

// node is one of the nodes, by its number from 1.
type node int

func nodes() []node { return []node{1, 2} }

func (n node) String() string { return "node" + strconv.Itoa(int(n)) }
func (n node) ip() string     { return fmt.Sprintf("172.30.0.%d", 10+int(n)) }
func (n node) zone() string   { return "zone" + strconv.Itoa(int(n)) }
func (n node) podCIDR() string {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n), 0}), 24).String()
}

// paths names the files of the cluster's folder.
type paths struct{ dir string }

func (p paths) record() string     { return filepath.Join(p.dir, "owner.json") }
func (p paths) lock() string       { return p.dir + ".lock" } // survives the folder
func (p paths) etcd() string       { return filepath.Join(p.dir, "etcd") }
func (p paths) kubeconfig() string { return p.config("admin") }
func (p paths) config(component string) string {
	return filepath.Join(p.dir, component+".kubeconfig")
}
func (p paths) cert(name string) string { return filepath.Join(p.dir, "pki", name+".crt") }
func (p paths) key(name string) string  { return filepath.Join(p.dir, "pki", name+".key") }
func (p paths) log(process string) string {
	return filepath.Join(p.dir, "log", process+".log")
}

// node is a folder that only this node sees: below it are those that take the
// place of the machine's own in the node, see ownFolders.
func (p paths) node(n node) string { return filepath.Join(p.dir, n.String()) }

// Ends of socket and file paths as a node sees them.
const (
	containerdSocket = "/run/containerd/containerd.sock"
	cniBin           = "/usr/lib/cni" // of Debian's package
)

// ownFolders are those of the machine's folders that each node has its own of.
func ownFolders() []string {
	return []string{"/run", "/var/log", "/var/lib/containerd", "/var/lib/kubelet", "/var/lib/cni", "/etc/cni"}
}

// own is where the node's own folder of that name is kept.
func (p paths) own(n node, folder string) string { return filepath.Join(p.node(n), "root", folder) }
