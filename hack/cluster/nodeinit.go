package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A node, and the host outside, is a process that sleeps in a network and a mount
// namespace of its own. What runs on the node enters these. In the mount
// namespace, the folders of ownFolders are the node's own: /run with its lock of
// iptables and its sockets, the state of kubelet, containerd and CNI, all at the
// paths where a real node has them. All of it is gone with the node's last process.

// initCommand is how this program calls itself to become a node.
const initCommand = "node-init"

// ensureHost starts the sleeping process, unless it runs, and returns it. root is
// the folder that has the host's own folders.
func (c *cluster) ensureHost(r *record, name, root string) (process, error) {
	if p := r.process(name); p.alive() {
		return p, nil
	}
	ready, readyWriter, err := os.Pipe()
	if err != nil {
		return process{}, err
	}
	defer ready.Close()
	log, err := c.openLog(name)
	if err != nil {
		return process{}, err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", initCommand, root)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{readyWriter} // its file 3, closed when it is ready
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", name, err)
	}
	readyWriter.Close()
	if err := os.WriteFile(processFile(name), fmt.Appendln(nil, cmd.Process.Pid), 0); err != nil {
		return process{}, errors.Join(fmt.Errorf("%s: %w", name, err), cmd.Process.Kill())
	}
	if err := c.recordProcess(r, name, cmd); err != nil {
		return process{}, err
	}
	if text := make([]byte, 1); !readsOne(ready, text) {
		return process{}, fmt.Errorf("%s could not make its namespaces its own: see %s", name, c.paths.log(name))
	}
	return r.process(name), nil
}

func readsOne(f *os.File, text []byte) bool {
	n, err := f.Read(text)
	return n == 1 && err == nil
}

// makeMountPoints makes those of the machine's folders that the nodes' own are
// mounted on, as far as they are missing: noted before, to be removed again.
func makeMountPoints(r *record) error {
	for _, folder := range ownFolders() {
		if err := r.change(func() { r.MadeFolders = append(r.MadeFolders, missingFolders(folder)...) }); err != nil {
			return err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// missingFolders returns those of a folder and the ones above it that are missing,
// the uppermost first.
func missingFolders(folder string) []string {
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return append(missingFolders(filepath.Dir(folder)), folder)
}

// nodeInit runs in the new namespaces: it makes them the node's and becomes a
// process that sleeps. It returns only if that fails. Without a root, nothing
// but the network is the host's own.
func nodeInit(root string) error {
	// First nothing that is mounted here may reach the machine; then, within the
	// node, mounts are shared, as containers with mount propagation ask for.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if root != "" {
		for _, folder := range ownFolders() {
			if err := unix.Mount(filepath.Join(root, folder), folder, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount the node's own %s: %w", folder, err)
			}
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
			return fmt.Errorf("make the mounts shared: %w", err)
		}
		if err := nodeSysctls(); err != nil {
			return err
		}
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		return err
	}
	ready := os.NewFile(3, "ready")
	if _, err := ready.WriteString("+"); err != nil {
		return err
	}
	if err := ready.Close(); err != nil {
		return err
	}
	return syscall.Exec(sleep, []string{"sleep", "infinity"}, os.Environ())
}

// nodeSysctls sets what a node's administrator does: it forwards packets, and
// lets node ports be used on 127.0.0.1.
func nodeSysctls() error {
	for key, value := range map[string]string{
		"net.ipv4.ip_forward":              "1",
		"net.ipv4.conf.all.route_localnet": "1",
		"net.ipv6.conf.all.forwarding":     "1",
		"net.ipv6.conf.default.forwarding": "1",
		"net.ipv4.conf.all.rp_filter":      "0",
		"net.ipv4.conf.default.rp_filter":  "0",
	} {
		file := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
		err := os.WriteFile(file, []byte(value), 0o644)
		if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(key, "net.ipv6.") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("sysctl %s: %w", key, err)
		}
	}
	return nil
}

// inNode returns the command line that runs args in the node's namespaces.
func inNode(p process, args ...string) []string {
	return append([]string{"nsenter", "--target", fmt.Sprint(p.PID), "--net", "--mount", "--"}, args...)
}

// runInNode runs a command in the node and returns an error with its output.
func runInNode(ctx context.Context, p process, args ...string) error {
	line := inNode(p, args...)
	if out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
