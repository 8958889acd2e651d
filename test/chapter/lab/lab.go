package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNoCluster is returned by Open if no cluster answers.
var ErrNoCluster = errors.New("no cluster is up; start one with Signpost in it: make cluster-up cluster-load")

// Cluster is a running cluster. Its methods may be called from several
// goroutines, but then the transcript mixes.
type Cluster struct {
	Client kubernetes.Interface
	Config *rest.Config

	out  io.Writer
	root string // the module's folder
	bin  string // the folder of the tools built for this Cluster
}

// Open returns the cluster that hack/cluster has up, or an error that wraps
// ErrNoCluster. The transcript goes to out. Call Close in the end.
func Open(ctx context.Context, out io.Writer) (*Cluster, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	bin, err := os.MkdirTemp("", "signpost-lab-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{out: out, root: root, bin: bin}
	if err := c.open(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) open(ctx context.Context) error {
	for tool, pkg := range map[string]string{"cluster": "./hack/cluster", "probe": "./test/chapter/probe"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(c.bin, tool), pkg)
		cmd.Dir = c.root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	kubeconfig, err := c.command(ctx, "cluster", "kubectl", "config", "view", "--raw", "--flatten").Output()
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrNoCluster, err)
	}
	if c.Config, err = clientcmd.RESTConfigFromKubeConfig(kubeconfig); err != nil {
		return fmt.Errorf("%w (%w)", ErrNoCluster, err)
	}
	// What a measurement asks must not wait for the client's own limit.
	c.Config.QPS, c.Config.Burst = 1000, 1000
	// That Endpoints are deprecated is known, and is why they are looked at.
	c.Config.WarningHandler = rest.NoWarnings{}
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		return err
	}
	if _, err := c.Client.Discovery().ServerVersion(); err != nil {
		return fmt.Errorf("%w (%w)", ErrNoCluster, err)
	}
	return nil
}

// Close removes what Open made. The cluster stays up.
func (c *Cluster) Close() {
	// Only a temporary folder: it does no harm if it stays.
	_ = os.RemoveAll(c.bin)
}

// Transcript sends the transcript to out from now on.
func (c *Cluster) Transcript(out io.Writer) { c.out = out }

// Quiet returns the same cluster without a transcript.
func (c *Cluster) Quiet() *Cluster {
	quiet := *c
	quiet.out = io.Discard
	return &quiet
}

// Say writes a line of prose into the transcript.
func (c *Cluster) Say(format string, args ...any) {
	fmt.Fprintf(c.out, "# "+format+"\n", args...)
}

// moduleRoot finds the folder of go.mod from the working directory upwards, as
// tests run in the folder of their package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "hack", "cluster")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not inside a checkout of Signpost: no hack/cluster in this folder or above it")
		}
		dir = filepath.Dir(dir)
	}
}

// Eventually calls check every interval until it returns nil or limit is over,
// and then returns its last error.
func Eventually(ctx context.Context, limit time.Duration, check func() error) error {
	const interval = 50 * time.Millisecond
	end := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("still so after %v: %w", limit, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case <-time.After(interval):
		}
	}
}

// quote writes args as one would type them into a shell.
func quote(args []string) string {
	var out []string
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n'\"$`\\|&;<>()*?[]{}#~!") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}
