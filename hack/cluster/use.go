package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The commands to use the cluster with. Those that run a program become it, so that
// its exit code and its signals are the program's.

func kubectl(_ context.Context, c *cluster, args []string) error {
	if _, err := c.running(); err != nil {
		return err
	}
	program, err := c.kubectlProgram()
	if err != nil {
		return err
	}
	return syscall.Exec(program, append([]string{"kubectl"}, args...), append(withoutKubeconfig(), "KUBECONFIG="+c.paths.kubeconfig()))
}

// withoutKubeconfig is the environment without a choice of another cluster.
func withoutKubeconfig() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "KUBECONFIG=") })
}

func printEnv(_ context.Context, c *cluster, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	if _, err := c.running(); err != nil {
		return err
	}
	program, err := c.kubectlProgram()
	if err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG=%s\n", c.paths.kubeconfig())
	if _, err := exec.LookPath("kubectl"); err != nil {
		fmt.Printf("export PATH=\"$PATH:%s\"\n", filepath.Dir(program))
	}
	return nil
}

func execNode(_ context.Context, c *cluster, args []string) error {
	if len(args) < 2 {
		return usageError("which node, and which command?")
	}
	i, err := strconv.Atoi(args[0])
	if err != nil || !slices.Contains(nodes(), node(i)) {
		return usageError(fmt.Sprintf("there is no node %q: want one of %v", args[0], nodes()))
	}
	return c.become(node(i).String(), args[1:])
}

func outside(_ context.Context, c *cluster, args []string) error {
	if len(args) == 0 {
		return usageError("which command?")
	}
	return c.become(outsideHost, args)
}

// become runs the command on the host in place of this program: in the working
// directory as long as the host has it, and in the cluster's group, so that `down`
// ends it.
func (c *cluster) become(host string, args []string) error {
	r, err := c.running()
	if err != nil {
		return err
	}
	p := r.process(host)
	if !p.alive() {
		return fmt.Errorf("%s does not run; start what is missing: go run ./hack/cluster up", host)
	}
	if err := os.WriteFile(processFile(host), fmt.Appendln(nil, os.Getpid()), 0); err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	line := inNode(p, append([]string{"sh", "-c", `cd "$0" 2>/dev/null; exec "$@"`, dir}, args...)...)
	program, err := exec.LookPath(line[0])
	if err != nil {
		return err
	}
	return syscall.Exec(program, line, os.Environ())
}

// podNetns is the command of that name. The namespaces of pods have names in
// their nodes only, but all have processes.
func podNetns(_ context.Context, c *cluster, args []string) error {
	if len(args) != 1 {
		return usageError("the address of which pod?")
	}
	if _, err := c.running(); err != nil {
		return err
	}
	pids, err := members(cgroupRoot, everyGroup)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		has, err := hasAddress(pid, args[0])
		if err != nil {
			return err
		}
		if has {
			fmt.Printf("/proc/%d/ns/net\n", pid)
			return nil
		}
	}
	return fmt.Errorf("no pod on the nodes of this machine has the address %s", args[0])
}

// hasAddress says whether an address is local where the process is.
func hasAddress(pid int, ip string) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/fib_trie", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL) {
		return false, nil // it has ended meanwhile
	}
	return localAddress(string(text), ip), err
}

// localAddress reads fib_trie, which has below the line of an address what it is:
//
//	|-- 10.244.1.7
//	   /32 host LOCAL
func localAddress(trie, ip string) bool {
	lines := strings.Split(trie, "\n")
	for i, line := range lines[:len(lines)-1] {
		if strings.HasSuffix(line, "|-- "+ip) && strings.Contains(lines[i+1], "/32 host LOCAL") {
			return true
		}
	}
	return false
}

// status is the command of that name. It fails if something that should run does not.
func status(ctx context.Context, c *cluster, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	r, err := c.running()
	if err != nil {
		return err
	}
	fmt.Printf("cluster of %s, in %s, since %s\n--proxy=%s --dns=%s\n\n", r.Checkout, c.paths.dir, r.Created.Format("2006-01-02 15:04:05"), r.Proxy, r.DNS)
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(r.Processes)) {
		p, state := r.Processes[name], "runs"
		if !p.alive() {
			state = "has ended, see " + c.paths.log(name)
			missing = append(missing, name)
		}
		fmt.Printf("  %-24s %8d  %s\n", name, p.PID, state)
	}
	fmt.Println()
	if err := c.printNodes(ctx); err != nil {
		missing = append(missing, "nodes")
		fmt.Println("  the API server does not answer:", err)
	}
	fmt.Printf("\nuse:    eval \"$(go run ./hack/cluster env)\"   # KUBECONFIG=%s\nremove: go run ./hack/cluster down\n", c.paths.kubeconfig())
	if len(missing) > 0 {
		return fmt.Errorf("not all is well: %s; start what is missing: go run ./hack/cluster up", strings.Join(missing, ", "))
	}
	return nil
}

func (c *cluster) printNodes(ctx context.Context) error {
	api, err := c.admin()
	if err != nil {
		return err
	}
	var list nodeList
	if err := get(ctx, api, apiServerURL+"/api/v1/nodes", &list); err != nil {
		return err
	}
	unready := list.unready()
	for _, item := range list.Items {
		state := "ready"
		if why, ok := unready[item.Metadata.Name]; ok {
			state = "not ready: " + why
		}
		fmt.Printf("  %-24s %8s  %s\n", item.Metadata.Name, item.Status.NodeInfo.KubeletVersion, state)
	}
	return nil
}
