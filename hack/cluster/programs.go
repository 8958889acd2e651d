package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/signpost-dev/signpost/hack/cluster/place"
	"github.com/signpost-dev/signpost/hack/cluster/step"
)

// source is a nested module under programs/ that pins what programs are built from.
type source struct {
	folder string // below hack/cluster/programs
	module string
	// pkg returns the package of a program.
	pkg func(program string) string
	// ldflags tell the programs their version, which they have no other way to know.
	ldflags func(version string) string
}

func sourceOf(program string) (source, error) {
	switch program {
	case apiServerName, controllerName, schedulerName, kubeProxy, "kubelet", "kubectl":
		return source{
			folder: "kubernetes", module: "k8s.io/kubernetes",
			pkg:     func(program string) string { return "k8s.io/kubernetes/cmd/" + program },
			ldflags: kubernetesVersion,
		}, nil
	case coreDNS:
		return source{
			folder: "coredns", module: "github.com/coredns/coredns",
			pkg:     func(string) string { return "github.com/coredns/coredns" },
			ldflags: func(string) string { return "-s -w" },
		}, nil
	}
	return source{}, usageError(fmt.Sprintf("there is no program %q: want one of kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet, kubectl, coredns", program))
}

// kubernetesVersion sets what the programs say they are: without it they say
// v0.0.0, which clients refuse.
func kubernetesVersion(version string) string {
	const variable = "k8s.io/component-base/version."
	numbers := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	flags := []string{"-s", "-w", "-X", variable + "gitVersion=" + version}
	for i, name := range []string{"gitMajor", "gitMinor"} {
		if i < len(numbers) {
			flags = append(flags, "-X", variable+name+"="+numbers[i])
		}
	}
	return strings.Join(flags, " ")
}

// program returns the file of a program, which need not be there yet: in a
// folder of the cache that has the version in its name.
func (c *cluster) program(name string) (string, error) {
	s, err := sourceOf(name)
	if err != nil {
		return "", err
	}
	dir, err := place.Programs(c.checkout, c.cache, s.folder, s.module)
	return filepath.Join(dir, name), err
}

func (c *cluster) sourceDir(s source) string {
	return filepath.Join(c.checkout, "hack", "cluster", "programs", s.folder)
}

func (c *cluster) version(s source) (string, error) {
	mod, err := os.ReadFile(filepath.Join(c.sourceDir(s), "go.mod"))
	if err != nil {
		return "", err
	}
	return place.Version(mod, s.module)
}

// buildPrograms is the command `programs`.
func buildPrograms(ctx context.Context, c *cluster, names []string) error {
	if len(names) == 0 {
		return usageError("which programs?")
	}
	if err := c.build(ctx, names...); err != nil {
		return err
	}
	for _, name := range names {
		file, err := c.program(name)
		if err != nil {
			return err
		}
		fmt.Println(file)
	}
	return nil
}

// build builds those of the programs that are not in the cache, one by one: each
// takes all processors.
func (c *cluster) build(ctx context.Context, names ...string) error {
	for _, name := range names {
		file, err := c.program(name)
		if err != nil {
			return err
		}
		if _, err := os.Stat(file); err == nil {
			continue
		}
		c.out.Say("    building %s: once per version, and it takes minutes where nothing of it is in Go's cache", name)
		err = c.out.Do(name+" built", func() error { return c.buildOne(ctx, name, file) })
		if err != nil {
			return err
		}
	}
	return nil
}

// buildOne builds a program under another name and renames it, so that what has
// the name is whole.
func (c *cluster) buildOne(ctx context.Context, name, file string) error {
	s, err := sourceOf(name)
	if err != nil {
		return err
	}
	version, err := c.version(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "."+name+"-")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) // after the rename there is no such file
	temp.Close()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", s.ldflags(version), "-o", temp.Name(), s.pkg(name))
	cmd.Dir = c.sourceDir(s)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return &step.Failure{
			What: fmt.Sprintf("%s could not be built: %v\n%s", name, err, text),
			Hint: "The modules come from Go's module proxy: if they could not be fetched, try again when it can be reached.",
		}
	}
	if err := os.Chmod(temp.Name(), 0o755); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}

// neededPrograms are those that a cluster of this kind consists of.
func (c *cluster) neededPrograms(proxy, dns string) ([]string, error) {
	needed := []string{apiServerName, controllerName, schedulerName, "kubelet"}
	if proxy == kubeProxy {
		needed = append(needed, kubeProxy)
	}
	if dns == coreDNS {
		needed = append(needed, coreDNS)
	}
	// The machine's own kubectl will do.
	_, err := c.kubectlProgram()
	if errors.Is(err, fs.ErrNotExist) {
		return append(needed, "kubectl"), nil
	}
	return needed, err
}

// kubectlProgram returns the kubectl to use: the one that was built with the
// cluster's programs or, without one, the machine's. If there is none, the
// error wraps fs.ErrNotExist.
func (c *cluster) kubectlProgram() (string, error) {
	built, err := c.program("kubectl")
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(built); err == nil {
		return built, nil
	}
	if found, err := exec.LookPath("kubectl"); err == nil {
		return found, nil
	}
	return "", fmt.Errorf("kubectl: %w; build it: go run ./hack/cluster programs kubectl", fs.ErrNotExist)
}

// oneOf checks the value of a flag, which may be empty.
func oneOf(flag, value string, allowed ...string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	return usageError(fmt.Sprintf("--%s=%s: want one of %s", flag, value, strings.Join(allowed, ", ")))
}
