package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
)

// A node that is frozen is one whose machine has died without a word: its
// kubelet does nothing more, and no packet goes in or out. What runs on it goes on
// in vain, as on a machine whose network has died.

// freeze is the command of that name.
func freeze(_ context.Context, c *cluster, args []string) error {
	kubeletOnly := len(args) == 2 && args[1] == "kubelet"
	if kubeletOnly {
		args = args[:1]
	}
	return c.setFrozen(args, !kubeletOnly, true)
}

// thaw is the command of that name. It undoes whatever freeze did.
func thaw(_ context.Context, c *cluster, args []string) error { return c.setFrozen(args, true, false) }

func (c *cluster) setFrozen(args []string, link, frozen bool) error {
	if len(args) != 1 {
		return usageError("which node?")
	}
	i, err := strconv.Atoi(args[0])
	if err != nil || !slices.Contains(nodes(), node(i)) {
		return usageError(fmt.Sprintf("there is no node %q: want one of %v", args[0], nodes()))
	}
	r, err := c.owned()
	if err != nil {
		return err
	}
	kubelet := r.process(kubeletName(node(i)))
	if !kubelet.alive() {
		return fmt.Errorf("the kubelet of %v does not run; start what is missing: go run ./hack/cluster up", node(i))
	}
	signal, set := syscall.SIGCONT, netlink.LinkSetUp
	if frozen {
		signal, set = syscall.SIGSTOP, netlink.LinkSetDown
	}
	if err := syscall.Kill(kubelet.PID, signal); err != nil {
		return fmt.Errorf("kubelet of %v: %w", node(i), err)
	}
	if !link {
		return nil
	}
	veth, err := netlink.LinkByName(vethName(node(i).String()))
	if err != nil {
		return fmt.Errorf("link of %v: %w", node(i), err)
	}
	if err := set(veth); err != nil {
		return fmt.Errorf("link of %v: %w", node(i), err)
	}
	return nil
}
