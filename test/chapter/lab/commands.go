package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ClientPod is the pod from which the chapter looks at the cluster.
const ClientPod = "client"

// CommandError says that a command ended with another code than 0. A step that
// expects a refusal looks at Output.
type CommandError struct {
	Command string
	Code    int
	Output  string
}

// Error names the command and quotes the last line that it printed.
func (e *CommandError) Error() string {
	lines := strings.Split(strings.TrimSpace(e.Output), "\n")
	return fmt.Sprintf("%s: exit code %d: %s", e.Command, e.Code, lines[len(lines)-1])
}

// Kubectl runs kubectl with these arguments and returns what it printed on
// both outputs. The error is a *CommandError if it ended with a code.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, "", "kubectl "+quote(args), "cluster", append([]string{"kubectl"}, args...)...)
}

// Apply runs kubectl apply on the manifest, in the namespace.
func (c *Cluster) Apply(ctx context.Context, namespace, manifest string) (string, error) {
	manifest = strings.TrimSpace(manifest) + "\n"
	return c.run(ctx, manifest, "kubectl apply -n "+namespace+" -f - <<'X'\n"+manifest+"X",
		"cluster", "kubectl", "apply", "-n", namespace, "-f", "-")
}

// Pod runs a command in the client pod.
func (c *Cluster) Pod(ctx context.Context, args ...string) (string, error) {
	return c.Kubectl(ctx, append([]string{"exec", ClientPod, "--"}, args...)...)
}

// Outside runs a command on the host that is no node of the cluster.
func (c *Cluster) Outside(ctx context.Context, args ...string) (string, error) {
	return c.hack(ctx, append([]string{"outside"}, args...)...)
}

// Node runs a command in the network namespace of node n, from 1.
func (c *Cluster) Node(ctx context.Context, n int, args ...string) (string, error) {
	return c.hack(ctx, append([]string{"exec-node", strconv.Itoa(n)}, args...)...)
}

// StopAPIServer stops the API server, and StartAPIServer starts it again.
func (c *Cluster) StopAPIServer(ctx context.Context) error {
	_, err := c.hack(ctx, "stop-apiserver")
	return err
}

// StartAPIServer starts the API server after StopAPIServer.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	_, err := c.hack(ctx, "start-apiserver")
	return err
}

// Freeze makes node n die without a word, or only its kubelet. Thaw undoes it.
func (c *Cluster) Freeze(ctx context.Context, n int, kubeletOnly bool) error {
	args := []string{"freeze", strconv.Itoa(n)}
	if kubeletOnly {
		args = append(args, "kubelet")
	}
	_, err := c.hack(ctx, args...)
	return err
}

// Thaw lets node n go on after Freeze.
func (c *Cluster) Thaw(ctx context.Context, n int) error {
	_, err := c.hack(ctx, "thaw", strconv.Itoa(n))
	return err
}

// hack runs hack/cluster. What is run was built from the same source as what
// is printed, which is what a reader can type.
func (c *Cluster) hack(ctx context.Context, args ...string) (string, error) {
	return c.run(ctx, "", "go run ./hack/cluster "+quote(args), "cluster", args...)
}

// run prints the command as shown, runs it, and prints and returns its output.
func (c *Cluster) run(ctx context.Context, stdin, shown, tool string, args ...string) (string, error) {
	fmt.Fprintf(c.out, "$ %s\n", shown)
	cmd := c.command(ctx, tool, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	err := cmd.Run()
	text := out.String()
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	fmt.Fprint(c.out, text)
	if exit := (&exec.ExitError{}); errors.As(err, &exit) {
		return text, &CommandError{Command: shown, Code: exit.ExitCode(), Output: text}
	}
	if err != nil {
		return text, fmt.Errorf("%s: %w", shown, err)
	}
	return text, nil
}

// command makes a command of one of the tools that Open built.
func (c *Cluster) command(ctx context.Context, tool string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.tool(tool), args...)
	cmd.Dir = c.root
	return cmd
}

func (c *Cluster) tool(name string) string { return filepath.Join(c.bin, name) }
