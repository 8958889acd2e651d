package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/signpost-dev/signpost/hack/cluster/step"
)

// Control groups are mounted one tree per controller (version 1) or as one tree
// (version 2). The cluster's group has the same name in each tree. Below it are:
//
//	host       the control plane and the host outside
//	node1 …    the processes of a node that are no containers, and
//	pods-node1 … its containers, ordered by its kubelet
//
// This program itself uses one of the trees, as to it only the membership is of
// interest; kubelet and the runtime use all.
const (
	cgroupRoot = "/sys/fs/cgroup"
	hostGroup  = "host"
)

// podGroup is the group of the node's containers as kubelet and the runtime know it.
func podGroup(n node) string { return "/" + groupName + "/pods-" + n.String() }

// groupOf returns the group of a process by its name: "kubelet-node1", "etcd".
func groupOf(process string) string {
	for _, n := range nodes() {
		if process == n.String() || strings.HasSuffix(process, "-"+n.String()) {
			return n.String()
		}
	}
	return hostGroup
}

// systemTree is the tree that this program uses.
func systemTree(root string) string {
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err == nil {
		return root // version 2
	}
	return filepath.Join(root, "pids")
}

// processFile is the file to write a process's number to, to make it a member of
// the group of the named process.
func processFile(name string) string {
	return filepath.Join(systemTree(cgroupRoot), groupName, groupOf(name), "cgroup.procs")
}

// makeGroups makes all groups.
func makeGroups() error {
	dirs := []string{filepath.Dir(processFile(hostGroup))}
	for _, n := range nodes() {
		dirs = append(dirs, filepath.Dir(processFile(n.String())))
		for _, tree := range trees(cgroupRoot) {
			dirs = append(dirs, filepath.Join(tree, podGroup(n)))
		}
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return delegate(cgroupRoot)
}

// trees returns where the trees of control groups are mounted.
func trees(root string) []string {
	if systemTree(root) == root {
		return []string{root}
	}
	var out []string
	// A pattern that is right has no error.
	files, _ := filepath.Glob(filepath.Join(root, "*", "cgroup.procs"))
	for _, file := range files {
		out = append(out, filepath.Dir(file))
	}
	return out
}

// delegate makes the controllers work in the groups of the pods: in version 2,
// each group has to hand them on to those below it.
func delegate(root string) error {
	if systemTree(root) != root {
		return nil
	}
	for _, dir := range []string{root, filepath.Join(root, groupName)} {
		controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return err
		}
		for controller := range strings.FieldsSeq(string(controllers)) {
			err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0)
			if err != nil {
				return fmt.Errorf("control groups: hand on %s: %w", controller, err)
			}
		}
	}
	return nil
}

// everyGroup stands for all groups of the cluster.
const everyGroup = ""

// groups returns the folders of one of the cluster's groups in all trees, with all
// those below it, the deepest first. One folder may appear under two names,
// where controllers share a tree.
func groups(root, name string) ([]string, error) {
	tops, err := filepath.Glob(filepath.Join(root, "*", groupName, name))
	if err != nil {
		return nil, err
	}
	tops = append(tops, filepath.Join(root, groupName, name))
	var out []string
	for _, top := range tops {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone meanwhile, or never there
			}
			if err == nil && d.IsDir() {
				out = append(out, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Reverse(out)
	return out, nil
}

// members returns the numbers of all processes in one of the cluster's groups.
func members(root, name string) ([]int, error) {
	dirs, err := groups(root, name)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
			return nil, err
		}
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("%s/cgroup.procs: %w", dir, err)
			}
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// killMembers ends all processes of the group, those included that are started
// meanwhile, by killing until none is left.
func killMembers(ctx context.Context, name string) error {
	return step.Await(ctx, 20*time.Second, func(context.Context) error {
		pids, err := members(cgroupRoot, name)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		return fmt.Errorf("%d processes are still there: %v", len(pids), pids)
	})
}

// removeGroups removes the empty groups. The kernel may take a moment to see that
// the last process of one has gone.
func removeGroups(ctx context.Context) error {
	return step.Await(ctx, 10*time.Second, func(context.Context) error {
		dirs, err := groups(cgroupRoot, everyGroup)
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
				return fmt.Errorf("remove the control group %s: %w", dir, err)
			}
		}
		return nil
	})
}
