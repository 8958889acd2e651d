// Command cluster runs a real two-node Kubernetes on this machine, for trying
// Signpost out and for its end-to-end tests. It needs root, Debian's packages
// and the Go module proxy: no container engine, no registry, no virtual machine.
//
//	go run ./hack/cluster COMMAND
//
// README.md has the commands, and a picture of what runs where.
//
// # How it stays clean
//
// A node is a process that sleeps in a network and a mount namespace of its own
// (nodeinit.go). Whatever containerd, kubelet and pods mount or configure
// there goes when its last process does, so that there is nothing to undo.
// All processes, and the containers, are in one control group (cgroup.go), which
// the kernel keeps true whatever is killed: that is how `down` finds
// them. What else there is on the machine — one bridge with its veth pairs and
// routes, the control groups, two or three empty folders, the cluster's folder —
// has a fixed name and the mark of its owner (record.go, network.go).
package main
