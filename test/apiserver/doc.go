// Package apiserver runs a real kube-apiserver and etcd for tests: on loopback,
// on free ports, with its data in a directory of its own that is gone
// afterwards.
//
// It is a control plane without controllers, scheduler or kubelets: what these
// would write, a test writes itself. The API server can be stopped and started
// again on the same address and data, for tests of an outage.
//
// Only tests may import it.
package apiserver
