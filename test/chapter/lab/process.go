package lab

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Daemon is a Signpost process that runs on a node of the cluster.
type Daemon struct {
	PID int
	// Started is when the kernel made the process, to 10 ms.
	Started time.Time
}

// Daemon finds the process of Signpost on node n, from 1. All
// nodes share the machine's process table; its network namespace says which
// node a process belongs to.
func (c *Cluster) Daemon(ctx context.Context, n int) (Daemon, error) {
	netns, err := c.Quiet().Node(ctx, n, "readlink", "/proc/self/ns/net")
	if err != nil {
		return Daemon{}, err
	}
	commands, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return Daemon{}, err
	}
	for _, path := range commands {
		// A process may end while it is looked at: then it is not the one.
		comm, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(comm)) != "signpost" {
			continue
		}
		dir := filepath.Dir(path)
		if ns, err := os.Readlink(dir + "/ns/net"); err != nil || ns != strings.TrimSpace(netns) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return Daemon{}, err
		}
		started, err := startTime(dir)
		return Daemon{pid, started}, err
	}
	return Daemon{}, fmt.Errorf("no process of Signpost runs on node %d", n)
}

// startTime reads when the kernel made a process, from field 22 of its stat.
func startTime(dir string) (time.Time, error) {
	const ticksPerSecond = 100 // USER_HZ, the same on all Linux platforms that run Kubernetes
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return time.Time{}, err
	}
	// The second field is the program's name, which may contain spaces.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return time.Time{}, fmt.Errorf("%s/stat has %d fields after the name", dir, len(fields))
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s/stat: start time: %w", dir, err)
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, err
	}
	up, err := strconv.ParseFloat(strings.Fields(string(uptime))[0], 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("/proc/uptime: %w", err)
	}
	boot := time.Now().Add(-time.Duration(up * float64(time.Second)))
	return boot.Add(time.Duration(ticks) * time.Second / ticksPerSecond), nil
}

// Ready says whether the daemon at this node's address answers /readyz with 200.
func Ready(ctx context.Context, nodeIP string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+nodeIP+":10256/readyz", nil)
	if err != nil {
		return false
	}
	req.Close = true // the next answer may be another process's
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// NodeAddress returns the internal address of a node.
func (c *Cluster) NodeAddress(ctx context.Context, name string) (string, error) {
	node, err := c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address, nil
		}
	}
	return "", fmt.Errorf("node %s has no internal address", name)
}

// NodeNumber returns the number by which hack/cluster knows a node.
func NodeNumber(name string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "node"))
	if err != nil {
		return 0, fmt.Errorf("node %q is not one of hack/cluster: want node1 or node2", name)
	}
	return n, nil
}
